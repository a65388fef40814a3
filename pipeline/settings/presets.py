"""Ready-made settings, each a file in ``presets/`` of what it changes of the default's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.settings.commented_yaml import render
from pipeline.settings.load import check
from pipeline.settings.schema import Settings, named
from pipeline.settings.yaml_file import read
from pipeline.storage.atomic import atomic_file
from pipeline.system.errors import InputError, choose

PRESETS = Path(__file__).parents[2] / "presets"
DEFAULT = "digits"  # the one that has every setting


def available() -> dict[str, str]:
    """Return the presets' names and the first comment line of each."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for path in sorted(PRESETS.glob("*.yaml"))
    }


def values(name: str) -> dict[str, Any]:
    """Return all settings of a preset, as params.yaml has them.

    An architecture without a family takes the settings of its first baseline, then changes some;
    one that a preset sets to null is left out.

    Raises:
        InputError: if there is no such preset.
    """
    choose(name, available(), "preset")
    content = _merged(read(PRESETS / f"{DEFAULT}.yaml"), read(PRESETS / f"{name}.yaml"))
    entries: dict[str, Any] = {}
    for architecture, entry in content["architectures"].items():
        if entry is not None:
            inherited = {} if "family" in entry else entries[named(entry["baseline"])[0]]
            entries[architecture] = {**inherited, **entry}
    return {**content, "architectures": entries}


def load(name: str) -> Settings:
    """Return a preset's settings, checked; raise `InputError` if there is no such preset."""
    return check(values(name), f"presets/{name}.yaml")


def text(name: str) -> str:
    """Return the complete, commented params.yaml of a preset; raise `InputError` as `values`."""
    return render(values(name), available()[name])


def apply(name: str, params: Path) -> list[str]:
    """Make `params` the preset called `name`; return what to say to the person.

    A settings file that is no preset, one that a person has edited, is kept beside it.

    Raises:
        InputError: if there is no such preset, or `params` or what is kept can't be written; then
            `params` is as it was.
    """
    load(name)
    messages = []
    try:
        known = {text(preset).encode() for preset in available()}
        with atomic_file(params) as staging:
            staging.write_text(text(name), encoding="utf-8")
            if params.exists() and params.read_bytes() not in known:
                names = (params.with_suffix(f".yaml.bak{n if n > 1 else ''}") for n in count(1))
                kept = next(name for name in names if not name.exists())
                with atomic_file(kept) as copy:  # not renamed: `params` stays if anything fails
                    shutil.copy2(params, copy)
                messages.append(f"{params} was edited: kept as {kept}")
    except OSError as error:
        raise InputError(f"{params}: can't be written: {error.strerror}") from None
    return [*messages, f"{params} is now the preset {name}: {available()[name]}"]


def _merged(default: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default with changes at any depth."""
    merged = dict(default)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
