"""Reading params.yaml: YAML 1.2, within bounds that keep a slip or a trick from filling the memory.

Anchors and merge keys let a few lines stand for billions of values.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from pipeline.system.errors import InputError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node, ScalarNode

LARGEST_FILE = 1_000_000  # bytes; the presets have 8,000
MOST_VALUES = 100_000  # with anchors and merge keys written out
LONGEST_VALUE = 1000  # characters
LONGEST_PROBLEM = 200


def read(path: Path) -> dict[str, Any]:
    """Return the plain contents of a YAML 1.2 settings file, anchors and merge keys resolved.

    Raises:
        InputError: if it is missing, too large, not UTF-8, not YAML, or not a mapping.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        content = _construct(_text(path), path.name)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        problem = shorten(str(error.problem), LONGEST_PROBLEM)
        raise InputError(f"{path.name}: line {line}: not valid YAML: {problem}") from None
    except YAMLError as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"{path.name}: not valid YAML: {first_line}") from None
    except RecursionError:
        raise InputError(f"{path.name}: not valid YAML here: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name}: expected a mapping of settings, found {_kind(content)}")
    return content


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError(
                f"{path}: has more than {LARGEST_FILE:,} bytes; it is no settings file"
            )
        return content.decode("utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; run from the project's folder, or name one with --params"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {error}") from None


def _construct(text: str, name: str) -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an anchor that is used again, as YAML allows
        root = yaml.compose(text)
    if root is None:
        return None
    if _written_out(root, {}) > MOST_VALUES:
        raise InputError(
            f"{name}: its anchors and merge keys stand for more than {MOST_VALUES:,} values; "
            "write out what is meant"
        )
    for scalar in _scalars(root, set()):
        _check(scalar, yaml.constructor, name)
    return yaml.constructor.construct_document(root)


def _written_out(node: Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for; what refers back to itself is counted once.

    Args:
        node: of the document.
        known: the answers for nodes already counted, by identity.
    """
    if id(node) not in known:
        known[id(node)] = 1
        known[id(node)] += sum(_written_out(part, known) for part in _parts(node))
    return known[id(node)]


def _scalars(node: Node, seen: set[int]) -> Iterator[ScalarNode]:
    """Yield every single value under a node, each once."""
    from ruamel.yaml.nodes import ScalarNode

    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, ScalarNode):
        yield node
    for part in _parts(node):
        yield from _scalars(part, seen)


def _parts(node: Node) -> Iterator[Node]:
    """Yield what a sequence holds, or a mapping's keys and values."""
    if isinstance(node.value, str):
        return
    for part in node.value:
        if isinstance(part, tuple):
            yield from part
        else:
            yield part


def _check(scalar: ScalarNode, constructor: Any, name: str) -> None:
    """Refuse a value that is too long, or whose text isn't what it looks like, as 2001-99-99."""
    where = f"{name}: line {scalar.start_mark.line + 1}"
    if len(scalar.value) > LONGEST_VALUE:
        shown = scalar.value[:20]
        raise InputError(
            f"{where}: '{shown}...' has {len(scalar.value):,} characters; {LONGEST_VALUE} are the "
            "most that a setting may have"
        )
    if scalar.tag in ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"):
        return  # `<<` and `=`, which only mappings can take
    try:
        constructor.construct_object(scalar)
        scalar.value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where}: '{scalar.value}' is not valid Unicode") from None
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: '{scalar.value}': {error}") from None


def _kind(content: object) -> str:
    match content:
        case None:
            return "nothing"
        case list():
            return "a list"
    return f"a single value, {content!r}"
