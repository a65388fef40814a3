"""Complete alternatives to params.yaml, each a commented file in ``presets/``."""

from __future__ import annotations

from pathlib import Path

from pipeline.settings.load import load
from pipeline.system.errors import InputError, choose

PRESETS = Path(__file__).parents[2] / "presets"


def available() -> dict[str, str]:
    """Return the presets' names and the first comment line of each."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for path in sorted(PRESETS.glob("*.yaml"))
    }


def apply(name: str, params: Path) -> list[str]:
    """Make `params` the preset called `name`; return what to tell the person.

    A settings file that is no preset, one that a person has edited, is kept beside it.

    Raises:
        InputError: if there is no such preset, or `params` can't be written.
    """
    presets = available()
    choose(name, presets, "preset")
    chosen = PRESETS / f"{name}.yaml"
    load(chosen)
    content = chosen.read_bytes()
    told = []
    try:
        if params.exists() and not _is_a_preset(params.read_bytes()):
            kept = _unused(params)
            params.rename(kept)
            told.append(f"{params} was edited: kept as {kept}")
        incomplete = params.with_name(f".incomplete-{params.name}")
        incomplete.write_bytes(content)
        incomplete.replace(params)
    except OSError as error:
        raise InputError(f"{params}: can't be written: {error.strerror}") from None
    return [*told, f"{params} is now the preset {name}: {presets[name]}"]


def _is_a_preset(content: bytes) -> bool:
    return any(content == path.read_bytes() for path in PRESETS.glob("*.yaml"))


def _unused(params: Path) -> Path:
    candidate = params.with_suffix(".yaml.bak")
    number = 1
    while candidate.exists():
        number += 1
        candidate = params.with_suffix(f".yaml.bak{number}")
    return candidate
