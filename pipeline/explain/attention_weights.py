"""The weights that attention modules give to a set of images, in numbers that fit memory.

The share that the class explains is eta squared, the between-class part of a one-way analysis of
variance: Fisher, "Statistical Methods for Research Workers", 1925, chapter VII.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.attention import Attention, Kind

LARGEST_MAP = 16  # pixels a side; larger maps of weights are averaged down to it

# Of the mean weight. The networks are trained in bfloat16, which rounds by up to 0.4 % (2**-8):
# what moves less than about two such steps is not told from rounding.
CONSTANT_BELOW = 0.01


@dataclass(frozen=True)
class ModuleWeights:
    """One attention module's weights by class, over the images of a set.

    Attributes:
        kind: what is weighted.
        shape: (C,) channels, or (h, w) positions.
        images: int64 (K,), of each class.
        mean: float64 (K, W), with W = C or h * w; NaN where a class has no image.
        sd: float64 (K, W), over the class's images, dividing by their number; NaN likewise.
        sd_over_images: float64 (V,), of each weight over all images, dividing likewise; V = C, or
            all positions: averages over positions vary less than these do.
    """

    kind: Kind
    shape: tuple[int, ...]
    images: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    sd_over_images: np.ndarray


@dataclass(frozen=True)
class Variation:
    """Whether a module's weights vary, and with what.

    Attributes:
        means: float64 (W,), of each weight over the images.
        mean: of all weights.
        sd_between: sd of `means`.
        sd_over_images: sd over the images, in the mean over the weights as the module gives them.
        share_by_class: share in [0, 1] of the variance over the images that the class explains,
            over all weights (W) together; NaN where nothing varies.
    """

    means: np.ndarray
    mean: float
    sd_between: float
    sd_over_images: float
    share_by_class: float

    @property
    def relative_sd(self) -> float:
        """Return the sd over images as a share of the mean weight; 0 where all weights are 0."""
        return self.sd_over_images / self.mean if self.mean else 0.0

    @property
    def constant(self) -> bool:
        """Return whether the module is a scale factor: its weights hardly vary with the image."""
        return self.relative_sd <= CONSTANT_BELOW


@contextmanager
def caught_weights(modules: Mapping[str, Attention]) -> Iterator[dict[str, Tensor]]:
    """Catch the weights that attention `modules` give while the context is open.

    Yields:
        a dictionary that each forward pass fills: (B, C) of channels, (B, 1, H, W) of positions.
        The hooks come off when the context closes, also after an error.
    """
    weights: dict[str, Tensor] = {}

    def catch(name: str) -> Any:
        def hook(module: Attention, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weights[name] = module.weights(inputs[0]).detach()

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(catch(name)).remove)
        yield weights


@torch.no_grad()
def weights_by_class(
    network: nn.Module,
    modules: Mapping[str, Attention],
    batches: Iterable[tuple[Tensor, np.ndarray]],
    num_classes: int,
) -> dict[str, ModuleWeights]:
    """Run the network once over `batches` and average its attention weights by class.

    Maps of weights larger than `LARGEST_MAP` are averaged down first, but for the sd over all
    images. A module that the network never runs is left out.

    Args:
        network: in evaluation mode.
        modules: its attention modules, by name.
        batches: inputs float32 (B, C, H, W), normalised, and labels int64 (B,).
        num_classes: K.
    """
    images = np.zeros(num_classes, dtype=np.int64)
    shapes: dict[str, tuple[int, ...]] = {}
    sums: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    full_sums: dict[str, np.ndarray] = {}  # not averaged down, (V,)
    full_squares: dict[str, np.ndarray] = {}
    with caught_weights(modules) as caught:
        for inputs, labels in batches:
            network(inputs)
            member = np.eye(num_classes)[labels].T  # (K, B)
            images += np.bincount(labels, minlength=num_classes)
            for name, told in caught.items():
                weights = _averaged_down(told)  # (B, C) or (B, h, w)
                shapes[name] = weights.shape[1:]
                weights = weights.reshape(len(weights), -1)  # (B, W)
                sums[name] = sums.get(name, 0) + member @ weights
                squares[name] = squares.get(name, 0) + member @ weights**2
                full = told.float().flatten(1).cpu().numpy()  # (B, V)
                full_sums[name] = full_sums.get(name, 0) + full.sum(axis=0, dtype=np.float64)
                full_squares[name] = full_squares.get(name, 0) + np.einsum(
                    "bv,bv->v", full, full, dtype=np.float64
                )
    return {
        name: _by_class(
            modules[name].kind,
            shapes[name],
            images,
            sums[name],
            squares[name],
            _sd_over_images(images.sum(), full_sums[name], full_squares[name]),
        )
        for name in modules
        if name in sums
    }


def variation(weights: ModuleWeights) -> Variation:
    """Return how the weights of a module vary over the images of the set."""
    seen = weights.images > 0
    share = (weights.images[seen] / weights.images.sum())[:, None]  # (k, 1)
    mean, sd = weights.mean[seen], weights.sd[seen]  # (k, W)
    means = (share * mean).sum(axis=0)  # (W,)
    between = (share * (mean - means) ** 2).sum(axis=0)  # (W,), variances
    total = between + (share * sd**2).sum(axis=0)
    varies = _varies(means, np.sqrt(total))
    explained, whole = between[varies].sum(), total[varies].sum()
    return Variation(
        means=means,
        mean=float(means.mean()),
        sd_between=float(means.std()),
        sd_over_images=float(weights.sd_over_images.mean()),
        share_by_class=float(explained / whole) if varies.any() else np.nan,
    )


def share_by_chance(images: np.ndarray) -> float:
    """Return the share that classes without any influence explain in the mean.

    Args:
        images: int64 (K,), of each class.
    """
    return float(((images > 0).sum() - 1) / max(1, images.sum() - 1))


def _varies(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return whether weights vary by what float32 resolves, which they are."""
    return sd > np.finfo(np.float32).eps * np.abs(mean)


def _sd_over_images(images: int, sums: np.ndarray, squares: np.ndarray) -> np.ndarray:
    mean = sums / images
    sd = np.sqrt(np.maximum(squares / images - mean**2, 0))
    return np.where(_varies(mean, sd), sd, 0)


def _averaged_down(weights: Tensor) -> np.ndarray:
    """Return channels' weights as float64 (B, C), positions' as (B, h, w)."""
    weights = weights.float()
    if weights.ndim == 4:
        height, width = (min(size, LARGEST_MAP) for size in weights.shape[2:])
        weights = F.adaptive_avg_pool2d(weights, (height, width))[:, 0]  # (B, h, w)
    return weights.cpu().double().numpy()


def _by_class(
    kind: Kind,
    shape: tuple[int, ...],
    images: np.ndarray,
    sums: np.ndarray,
    squares: np.ndarray,
    sd_over_images: np.ndarray,
) -> ModuleWeights:
    with np.errstate(invalid="ignore"):
        mean = sums / images[:, None]  # (K, W)
        sd = np.sqrt(np.maximum(squares / images[:, None] - mean**2, 0))
    return ModuleWeights(kind, shape, images, mean, sd, sd_over_images)
