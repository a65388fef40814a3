"""What predict and export check first: trained networks, and a folder to write to."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.data.sources.listing import is_folder
from pipeline.system.errors import InputError
from pipeline.system.text import printable
from pipeline.training.weights import check_seed


def check_folder(folder: Path) -> None:
    """Check that a folder is there, or can be made as far as what is above it allows.

    Raises:
        InputError: if it, or what it would lie in, is there and is no folder.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not is_folder(there):
        raise InputError(f"--out: '{printable(str(there))}' is not a folder; choose another")


def check_trained(model: str, seed: int, weights: Path) -> None:
    """Check that `weights`, the ``model.safetensors`` of a training run, are there and of `seed`.

    Raises:
        InputError: if they aren't; the message says what to run.
    """
    if not weights.exists():
        raise InputError(
            f"{weights}: no such file: {model} is not trained with seed {seed} yet; run the "
            f"pipeline (dvc repro, or snakemake --cores 4), or "
            f"python -m pipeline train --model {model} --seed {seed}"
        )
    check_seed(weights, seed)
