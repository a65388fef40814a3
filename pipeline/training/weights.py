"""Trained weights on disk, as safetensors: nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipeline.errors import InputError


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict; the same weights give the same bytes."""
    path.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in state.items()}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read the weights that `save_weights` wrote into `model`.

    Raises:
        InputError: if the file is missing or torn, or is of another architecture.
    """
    again = "run the training again"
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {again}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: can't be read as safetensors ({error}); {again}") from None
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise InputError(
            f"{path}: holds the weights of another architecture than params.yaml describes; {again}"
        ) from None
