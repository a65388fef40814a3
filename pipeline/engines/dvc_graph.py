"""What dvc.yaml says of a stage, read as plain YAML: DVC takes a second to import."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.system.errors import InputError

ROOT = Path(__file__).parents[2]
NO_CODE = ("data/", "reports/", "${")  # outputs of other stages, and a person's images


def code_of_stage(stage: str) -> list[Path]:
    """Return the source files and folders that a stage of dvc.yaml depends on.

    They are those of this program, whatever folder it is run in.

    Args:
        stage: a key of `stages` in dvc.yaml, such as ``train``.
    """
    return [ROOT / dep for dep in read_stages()[stage]["deps"] if not dep.startswith(NO_CODE)]


def settings_of_stage(stage: str, model: str | None = None) -> list[str]:
    """Return the dotted keys of the settings that a stage names; none if it takes the whole file.

    Args:
        stage: a key of `stages` in dvc.yaml.
        model: an architecture, for the stages that have one.
    """
    keys = read_stages()[stage].get("params", [])
    if any(isinstance(key, dict) for key in keys):
        return []
    return [key.replace("${item.model}", model or "") for key in keys]


def frozen() -> list[str]:
    """Return a line for each frozen stage of dvc.yaml: what it wrote may be of other settings."""
    return [frozen_line(name) for name, stage in read_stages().items() if stage.get("frozen")]


def frozen_line(name: str) -> str:
    """Return what to say of a frozen stage."""
    return f"{name} is frozen: it stays as it is until dvc unfreeze {name}"


@functools.cache
def read_stages() -> dict[str, Any]:
    """Return `stages` of dvc.yaml.

    Raises:
        InputError: if it is not YAML.
    """
    try:
        stages: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    except YAMLError as error:
        raise InputError(f"dvc.yaml: not valid YAML: {' '.join(str(error).split())}") from None
    return stages
