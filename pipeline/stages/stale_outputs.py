"""Outputs of runs that params.yaml no longer lists.

The report depends on the folders of all runs, and a clone gets only those that are listed: stale
outputs make the report out of date there.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.settings.schema import Settings


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


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())
