"""Trained weights on disk, as safetensors: nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.settings.recorded import check_recorded
from pipeline.settings.schema import Settings
from pipeline.storage.records import MadeFrom, Provenance
from pipeline.system.errors import InputError

AGAIN = "run the training again"
PROVENANCE = "provenance"  # a single key of the file's metadata: several would come in any order


def save_weights(state: dict[str, Tensor], path: Path, provenance: Provenance) -> None:
    """Write a state dict, and where it comes from. The same weights give the same bytes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    path.write_bytes(save(tensors, {PROVENANCE: provenance.model_dump_json()}))


def load_weights(model: nn.Module, path: Path, splits: str, settings: Settings) -> None:
    """Read the weights that `save_weights` wrote into `model`.

    Raises:
        InputError: if the file is missing or corrupt, is of another architecture, holds what no
            training leaves, or was trained on other splits: their test images may be among those
            that it has learnt.
    """
    with _opened(path) as (file, provenance):
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if provenance.splits != splits:
        raise InputError(f"{path}: was trained on other splits than those given; {AGAIN}")
    recorded = provenance.made_from.settings
    # other layers, such as activations, may have weights of the same shapes
    check_recorded(path, _architecture(recorded), settings, AGAIN, "trained")
    check_values(state, model.state_dict(), path, AGAIN)
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise InputError(
            f"{path}: holds the weights of another architecture than params.yaml describes; {AGAIN}"
        ) from None


def check_recipe(
    path: Path, settings: Settings, model: str, seed: int, code: dict[str, str]
) -> MadeFrom:
    """Return what the weights of a training of `model` with `seed` were made from.

    Args:
        path: of the weights' file.
        settings: all of params.yaml.
        model: a key of `settings.architectures`.
        seed: of the training.
        code: the checksums of the code that trains.

    Raises:
        InputError: if the file is missing or corrupt, or they were trained under other settings,
            with another seed, or by other code.
    """
    with _opened(path) as (_, provenance):
        pass
    # without --force DVC may take it for done: settings or code were edited as it noted them
    again = f"{AGAIN}: dvc repro --force --single-item train@{model}-{seed}"
    check_recorded(path, provenance.made_from.settings, settings, again, "trained")
    _refuse_seed(path, provenance, seed, again)
    if provenance.made_from.code != code:
        raise InputError(f"{path}: was trained by other code than that in pipeline/; {again}")
    return provenance.made_from


def check_seed(path: Path, seed: int) -> None:
    """Check that weights are those of a training with `seed`.

    Raises:
        InputError: if the file is missing or corrupt, or of another seed.
    """
    with _opened(path) as (_, provenance):
        _refuse_seed(path, provenance, seed, AGAIN)


def _refuse_seed(path: Path, provenance: Provenance, seed: int, again: str) -> None:
    if provenance.seed != seed:
        raise InputError(f"{path}: is of seed {provenance.seed}, not of {seed}; {again}")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[safe_open, Provenance]]:
    """Open weights, of which nothing but their provenance is read yet."""
    try:
        with safe_open(path, framework="pt") as file:
            noted = (file.metadata() or {}).get(PROVENANCE, "")
            yield file, Provenance.model_validate_json(noted)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {AGAIN}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: can't be read as safetensors ({error}); {AGAIN}") from None
    except ValidationError:
        raise InputError(f"{path}: doesn't say what it was trained from; {AGAIN}") from None


def _architecture(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.startswith("architectures.")}


def check_values(
    state: dict[str, Tensor], expected: dict[str, Tensor], path: Path, remedy: str
) -> None:
    """Refuse tensors of another type, which would be converted, and what no training gives.

    Raises:
        InputError: if there is one; the message names it and ends with the `remedy`.
    """
    for name, tensor in state.items():
        if name in expected and tensor.dtype != expected[name].dtype:
            reason = f"is of {tensor.dtype}, expected {expected[name].dtype}"
        elif not torch.isfinite(tensor).all():
            reason = "holds a value that is not finite"
        elif name.endswith(("running_var", "num_batches_tracked")) and (tensor < 0).any():
            reason = "holds a value below 0"
        else:
            continue
        raise InputError(f"{path}: {name} {reason}; {remedy}")
