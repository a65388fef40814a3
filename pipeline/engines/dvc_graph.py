"""What dvc.yaml says of a stage, read as plain YAML: DVC takes a second to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
NO_CODE = ("data/", "reports/", "${")  # outputs of other stages, and a person's images


def code_of_stage(stage: str) -> list[Path]:
    """Return the source files and folders that a stage of dvc.yaml depends on.

    They are those of this program, whatever folder it is run in.

    Args:
        stage: a key of `stages` in dvc.yaml, such as ``train``.
    """
    return [ROOT / dep for dep in _stage(stage)["deps"] if not dep.startswith(NO_CODE)]


def settings_of_stage(stage: str, model: str | None = None) -> list[str]:
    """Return the dotted keys of the settings that a stage depends on; none if on the whole file.

    Args:
        stage: a key of `stages` in dvc.yaml.
        model: an architecture, for the stages that have one.
    """
    keys = _stage(stage)["params"]
    if any(isinstance(key, dict) for key in keys):
        return []
    return [key.replace("${item.model}", model or "") for key in keys]


def _stage(stage: str) -> dict[str, Any]:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    return YAML(typ="safe").load(text)["stages"][stage]
