"""The settings that a result was made under, and how they differ from those of params.yaml now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.settings.schema import Settings
from pipeline.system.errors import InputError, shown


def select(settings: Settings, keys: Iterable[str]) -> dict[str, Any]:
    """Return the values of settings as JSON has them, by their dotted keys.

    A key such as ``train`` or ``architectures.cnn`` stands for all below it. One that isn't there
    has the value None.
    """
    content = settings.model_dump(mode="json")
    return {key: value_of(content, key) for key in keys}


def differences(recorded: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return each setting that differs from what `select` gave, such as ``train.epochs: 5, now 6``.

    Args:
        recorded: what `select` returned when the result was made.
        settings: those of now.
    """
    before = dict(flat(recorded))
    now = dict(flat(select(settings, recorded)))
    keys = dict.fromkeys([*before, *now])
    return [
        f"{key}: {_shown(before, key)}, now {_shown(now, key)}"
        for key in keys
        if (key in before) != (key in now) or before.get(key) != now.get(key)
    ]


def check_recorded(
    path: Path, recorded: Mapping[str, Any], settings: Settings, again: str, made: str = "made"
) -> None:
    """Refuse a file that was `made` under other settings; the message ends with what to do `again`.

    Raises:
        InputError: if one of those that `select` gave differs.
    """
    if found := differences(recorded, settings):
        raise InputError(
            f"{path}: was {made} under other settings than those of params.yaml: "
            f"{'; '.join(found)}; {again}"
        )


def value_of(content: Any, dotted: str) -> Any:
    """Return the value of a dotted key in nested mappings, None if it isn't there."""
    for key in dotted.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key of each value in nested mappings, and the value."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _shown(content: Mapping[str, Any], key: str) -> str:
    return shown(content[key]) if key in content else "not set"
