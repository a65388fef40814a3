"""The checkpoints of trainings that are finished or were given up."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.storage.running import FINISHED


def list_checkpoints(checkpoints: Path) -> dict[Path, str]:
    """Return the folders in that of all checkpoints, and what each of them is still good for."""
    return {
        folder: (
            "a finished training, not evaluated since"
            if (folder / FINISHED).exists()
            else "a training that was not finished; it would begin again"
        )
        for folder in sorted(path for path in checkpoints.glob("[!.]*") if path.is_dir())
    }


def remove_finished(checkpoints: Path, run: str) -> None:
    """Remove the checkpoints of the finished trainings of a run, ``<model>-<seed>``."""
    for marker in checkpoints.glob(f"{run}-*/{FINISHED}"):
        shutil.rmtree(marker.parent, ignore_errors=True)
