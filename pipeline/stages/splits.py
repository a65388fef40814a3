"""Which splits the settings ask for."""

from __future__ import annotations

from pipeline.data.arrays import Wanted
from pipeline.params import Settings


def wanted(settings: Settings) -> Wanted:
    """Return what the splits must be that a stage reads."""
    return Wanted(settings.data.name, settings.data.image_size, settings.split.folds)
