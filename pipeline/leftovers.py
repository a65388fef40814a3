"""What no run needs any more: outputs that params.yaml no longer lists, abandoned checkpoints.

The report depends on the folders of all runs, and a clone gets only those that are listed: what is
left over makes the report stale there.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.params import Settings


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


def unfinished(checkpoints: Path) -> list[Path]:
    """Return the folders of trainings that were begun and not finished.

    Args:
        checkpoints: the folder with a folder for each of them.
    """
    return _folders(checkpoints)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())
