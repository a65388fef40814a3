"""Which trained networks there are to use."""

from __future__ import annotations

from pathlib import Path

from pipeline.system.errors import InputError


def check_trained(model: str, seed: int, weights: Path) -> None:
    """Check that the network of a training run is there.

    Args:
        model: the name of the architecture.
        seed: of the run.
        weights: its ``model.safetensors``.

    Raises:
        InputError: if it isn't; the message says what to run.
    """
    if not weights.exists():
        raise InputError(
            f"{weights}: no such file: {model} is not trained with seed {seed} yet; run the "
            f"pipeline (dvc repro, or snakemake --cores 4), or "
            f"python -m pipeline train --model {model} --seed {seed}"
        )
