"""A complete params.yaml of given values, commented with the descriptions of the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.settings.schema import FAMILIES, Settings, named

COLUMN = 34  # of the comments behind values

HEADER = """
What is compared, on which images, under which recipe. Change a value, run again: only what
depends on it runs again. `python -m pipeline check` says whether the file is right;
`python -m pipeline preset` lists complete alternatives to it."""
VARIANTS = """\
Variants to switch on: take the `#` away. Each differs from its baseline in one thing.
static_densenet: {<<: *densenet, attention: static, baseline: densenet}  # a placebo: sees no image
spatial_cnn: {<<: *cnn, attention: spatial, baseline: cnn}
cbam_cnn: {<<: *cnn, attention: cbam, baseline: cnn}
eca_cnn: {<<: *cnn, attention: eca, baseline: cnn}
coordinate_cnn: {<<: *cnn, attention: coordinate, baseline: cnn}
simam_cnn: {<<: *cnn, attention: simam, baseline: cnn}
self_attention_cnn: {<<: *cnn, attention: self_attention, baseline: cnn}
ca_block2_cnn: {<<: *cnn, attention: channel, attention_at: [2], baseline: cnn}
mish_cnn: {<<: *cnn, activation: mish, baseline: cnn}
group_norm_cnn: {<<: *cnn, normalisation: group, baseline: cnn}
strided_cnn: {<<: *cnn, pooling: strided_conv, baseline: cnn}
cbam_densenet: {<<: *densenet, attention: cbam, baseline: densenet}
se_block_densenet: {<<: *densenet, attention: channel, attention_at: blocks, baseline: densenet}
resnet18: {family: torchvision, name: resnet18, small_inputs: true}  # any of torchvision's
seresnet18: {family: timm, name: seresnet18, small_inputs: true}  # any of timm's, if installed"""
VARIED = re.compile(r"<<: \*(\w+)")  # whose settings a variant takes
PLAIN = re.compile(r"[a-z][a-z0-9_./]*")  # needs no quotes, unless it is
RESERVED = ("null", "true", "false", "yes", "no", "on", "off")


def render(content: Mapping[str, Any], summary: str) -> str:
    """Return the text of a settings file.

    Args:
        content: every setting, as `Settings` takes it.
        summary: the first line: what these settings are for.
    """
    lines = [*_block(summary), *_block(HEADER)]
    said: set[str] = set()  # comments so far: each stands at the first setting that has it
    for key, field in Settings.model_fields.items():
        value = content[key]
        lines += ["", *_block(field.description or "")]
        if key == "architectures":
            lines += ["architectures:", *_architectures(value, said)]
        elif isinstance(value, Mapping):
            lines += [f"{key}:", *_settings(field.annotation, value, "  ", said)]
        else:
            lines.append(f"{key}: {flow(value)}")
    return "\n".join(lines) + "\n"


def _architectures(entries: Mapping[str, Any], said: set[str]) -> Iterator[str]:
    """Yield the lines of all entries; one of its baseline's family says what differs from that."""
    first = {name: named(entry.get("baseline"))[:1] for name, entry in entries.items()}
    anchored = {base for found in first.values() for base in found} | set(VARIED.findall(VARIANTS))
    written: dict[str, Mapping[str, Any]] = {}
    for name, entry in entries.items():
        yield f"  {name}:" + (f" &{name}" if name in anchored else "")
        base, differing = written.get("".join(first[name]), {}), entry
        if base.get("family") == entry["family"]:
            yield f"    <<: *{first[name][0]}"
            differing = {
                key: value for key, value in entry.items() if (key, value) not in base.items()
            }
        yield from _settings(FAMILIES[entry["family"]], differing, "    ", said)
        written[name] = entry
    variants = [line for line in VARIANTS.splitlines() if line.partition(":")[0] not in entries]
    yield from (f"  {line}" for line in _block("\n".join(variants)))


def _settings(
    section: Any, values: Mapping[str, Any], indent: str, said: set[str]
) -> Iterator[str]:
    for key, field in section.model_fields.items():
        if key not in values:
            continue
        value = values[key]
        is_section = isinstance(value, Mapping) and isinstance(field.annotation, type)
        line = f"{indent}{key}:" if is_section else f"{indent}{key}: {flow(value)}"
        comment = field.description or ""
        if comment and comment not in said:
            said.add(comment)
            first, *more = comment.splitlines()
            yield f"{line:<{COLUMN - 2}}  # {first}"
            yield from (f"{'':{COLUMN}}# {rest}" for rest in more)
        else:
            yield line
        if is_section:
            yield from _settings(field.annotation, value, f"{indent}  ", said)


def _block(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]


def flow(value: Any) -> str:
    """Return a value on one line, as YAML: JSON, but for keys and texts that need no quotes."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {flow(part)}' for key, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(flow(part) for part in value)}]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value not in RESERVED:
        return value
    return json.dumps(value)
