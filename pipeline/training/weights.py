"""Trained weights on disk, as safetensors: nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.system.errors import InputError

SPLITS = "splits"


def save_weights(state: dict[str, Tensor], path: Path, splits: str) -> None:
    """Write a state dict, and the fingerprint of the splits that it was trained on.

    The same weights give the same bytes.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    path.write_bytes(save(tensors, {SPLITS: splits}))


def load_weights(model: nn.Module, path: Path, splits: str) -> None:
    """Read the weights that `save_weights` wrote into `model`.

    Raises:
        InputError: if the file is missing or corrupt, is of another architecture, or was trained on
            other splits: their test images may be among those that it has learnt.
    """
    again = "run the training again"
    try:
        with safe_open(path, framework="pt") as file:
            trained_on = (file.metadata() or {}).get(SPLITS)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {again}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: can't be read as safetensors ({error}); {again}") from None
    if trained_on != splits:
        raise InputError(f"{path}: was trained on other splits than those given; {again}")
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise InputError(
            f"{path}: holds the weights of another architecture than params.yaml describes; {again}"
        ) from None
