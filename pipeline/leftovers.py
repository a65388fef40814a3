"""What no run needs any more: outputs that params.yaml no longer lists, abandoned checkpoints.

The report depends on the folders of all runs, and a clone gets only those that are listed: what is
left over makes the report stale there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.params import Settings

FINISHED = "finished"  # a file beside the checkpoints of a training that is


def find(settings: Settings, trained: Path, evaluated: Path, figures: Path) -> list[Path]:
    """Return the folders of architectures and seeds that `settings` doesn't have.

    Args:
        settings: all of params.yaml.
        trained: the folder with ``<model>/<seed>/`` of the training stage.
        evaluated: the folder with ``<model>/<seed>/`` of the evaluation stage.
        figures: the folder with ``<model>/`` of the explain stage.
    """
    seeds = {str(seed) for seed in settings.seeds}
    found = []
    for folder in (trained, evaluated, figures):
        for model in _folders(folder):
            if model.name not in settings.architectures:
                found.append(model)
            elif folder != figures:
                found += [run for run in _folders(model) if run.name not in seeds]
    return found


def of_checkpoints(checkpoints: Path) -> dict[Path, str]:
    """Return the folders of checkpoints, and what each of them is still good for.

    Args:
        checkpoints: the folder with a folder for each training.
    """
    return {
        folder: (
            "a finished training, not evaluated since"
            if (folder / FINISHED).exists()
            else "a training that was not finished; it would begin anew"
        )
        for folder in _folders(checkpoints)
    }


def remove_finished(checkpoints: Path, run: str) -> None:
    """Remove the checkpoints of a run's finished trainings.

    Args:
        checkpoints: the folder with a folder for each training.
        run: ``<model>-<seed>``, with which their names begin.
    """
    for marker in checkpoints.glob(f"{run}-*/{FINISHED}"):
        shutil.rmtree(marker.parent, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())
