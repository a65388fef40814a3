"""What dvc.yaml says of a stage, read as plain YAML: DVC takes a second to import."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def code_of_stage(stage: str) -> list[Path]:
    """Return the source files and folders that a stage of dvc.yaml depends on.

    They are those of this program, whatever folder it is run in.

    Args:
        stage: a key of `stages` in dvc.yaml, such as ``train``.
    """
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    deps = YAML(typ="safe").load(text)["stages"][stage]["deps"]
    return [ROOT / dep for dep in deps if dep.startswith("pipeline/")]
