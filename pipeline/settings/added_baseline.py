"""Adds an architecture to the text of params.yaml, as a further baseline of another one.

The text is changed at two places, where the parser says that they are: comments, anchors and the
order of all else stay as a person wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from pipeline.settings.commented_yaml import COLUMN, flow
from pipeline.settings.schema import named
from pipeline.settings.yaml_file import parse
from pipeline.system.errors import InputError


def with_baseline(
    text: str, model: str, template: str, name: str, changes: Mapping[str, Any], comment: str
) -> str:
    """Return the text with the architecture `name`, a further baseline of `model`.

    Args:
        text: of a settings file that is valid.
        model: an architecture in it, which names a baseline.
        template: another one, from which `name` differs in `changes`.
        name: of the new architecture.
        changes: settings and their values.
        comment: of the first of them, one line.

    Raises:
        InputError: if the text is laid out so that it can't be changed at these places alone.
    """
    before = parse(text, "params.yaml")
    inherited = before["architectures"][template]
    entry = inherited | changes | {"baseline": None}
    baselines = [*named(before["architectures"][model]["baseline"]), name]
    composed = YAML(typ="safe", pure=True).compose(text)
    nodes = {key.value: (key, value) for key, value in _child(composed, "architectures").value}
    (key, value), (_, source) = nodes[model], nodes[template]

    indent = " " * key.start_mark.column
    lines, written = [f"{name}:"], entry
    if source.anchor and source.start_mark.index < value.start_mark.index:
        lines.append(f"  <<: *{source.anchor}")
        written = {
            setting: found for setting, found in entry.items() if inherited.get(setting) != found
        }
    for setting, found in written.items():
        lines.append(f"  {setting}: {flow(found)}")
        if setting == next(iter(changes)):
            lines[-1] = f"{lines[-1]:<{COLUMN - 2 - len(indent)}}  # {comment}"
    by_line = text.splitlines(keepends=True)
    last = _last_line(value)
    added = [by_line[last].rstrip(), *(indent + line for line in lines)]
    by_line[last] = "\n".join(added) + "\n"
    named_by = _child(value, "baseline")
    if named_by is not None and named_by.start_mark.line == named_by.end_mark.line:
        start, end = named_by.start_mark, named_by.end_mark
        line = by_line[start.line]
        by_line[start.line] = line[: start.column] + flow(baselines) + line[end.column :]
    after = "".join(by_line)

    entries = dict(before["architectures"])
    entries[model] = entries[model] | {"baseline": baselines}
    entries[name] = entry if written is entry else inherited | written
    if not _holds(after, before | {"architectures": entries}):
        raise InputError(
            f"params.yaml: architectures.{model}: its layout can't be changed by program; add "
            f"{name} by hand, {template} with "
            f"{', '.join(f'{setting}: {flow(found)}' for setting, found in changes.items())}, and "
            f"let {model} name it: baseline: {flow(baselines)}"
        )
    return after


def _holds(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return parse(text, "params.yaml") == expected
    except InputError:
        return False


def _child(node: MappingNode, name: str) -> Any:
    """Return the node of a key's value, or None."""
    return next((value for key, value in node.value if key.value == name), None)


def _last_line(node: Node) -> int:
    """Return the line on which a node's text ends: a block's own end is where the next begins."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.line
