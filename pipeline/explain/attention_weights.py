"""The weights that attention modules give to a set of images: by class, and whether they vary.

The share that the class explains is eta squared, the between-class part of a one-way analysis of
variance: Fisher, "Statistical Methods for Research Workers", 1925, chapter VII.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.attention import Attention, Kind
from pipeline.models.inspection import CONSTANT_BELOW, record_weights

LARGEST_MAP = 16  # pixels a side; larger maps of weights are averaged down to it


@dataclass(frozen=True)
class ModuleWeights:
    """One attention module's weights by class, over the images of a set."""

    kind: Kind
    shape: tuple[int, ...]  # (C,) channels, or (h, w) positions: elementwise weights' channel means
    images: np.ndarray  # int64 (K,), of each class
    mean: np.ndarray  # float64 (K, W), with W = C or h * w; NaN where a class has no image
    sd: np.ndarray  # float64 (K, W), over a class's images, dividing by their number; NaN likewise
    # float64 (V,), of each weight as the module gives them over all images, dividing likewise:
    # averages over positions or channels vary less than these do
    mean_over_images: np.ndarray
    sd_over_images: np.ndarray


@dataclass(frozen=True)
class Variation:
    """Whether a module's weights vary, and with what."""

    means: np.ndarray  # float64 (W,), of each weight over the images
    mean: float  # of all weights
    sd_between: float  # sd of the weights' means over the images, as the module gives them
    sd_over_images: float  # in the mean over the weights as the module gives them
    # share in [0, 1] of the variance over the images that the class explains, over all weights
    # (W) together; NaN where nothing varies
    share_by_class: float

    @property
    def relative_sd(self) -> float:
        """Return the sd over images as a share of the mean weight; 0 where all weights are 0."""
        return self.sd_over_images / self.mean if self.mean else 0.0

    @property
    def constant(self) -> bool:
        """Return whether the module is a scale factor: its weights hardly vary with the image."""
        return self.relative_sd <= CONSTANT_BELOW


@torch.no_grad()
def weights_by_class(
    network: nn.Module,
    modules: Mapping[str, Attention],
    batches: Iterable[tuple[Tensor, np.ndarray]],
    num_classes: int,
) -> dict[str, ModuleWeights]:
    """Run the network once over `batches` and average its attention weights by class.

    Elementwise weights are averaged over the channels, and maps larger than `LARGEST_MAP` down to
    it, but for mean and sd over all images. A module that the network never runs is left out.

    Args:
        network: in evaluation mode.
        modules: its attention modules.
        batches: inputs float32 (B, C, H, W), normalised, and labels int64 (B,).
        num_classes: K.
    """
    images = np.zeros(num_classes, dtype=np.int64)
    shapes: dict[str, tuple[int, ...]] = {}
    sums: dict[str, list[np.ndarray]] = {}  # by class (K, W) and over all images (V,), with squares
    with record_weights(modules) as recorded:
        for inputs, labels in batches:
            network(inputs)
            member = np.eye(num_classes)[labels].T  # (K, B)
            images += np.bincount(labels, minlength=num_classes)
            for name, given in recorded.items():
                small = given = given.float()  # (B, C), (B, 1, H, W) or (B, C, H, W)
                if given.ndim == 4:
                    height, width = (min(size, LARGEST_MAP) for size in given.shape[2:])
                    small = F.adaptive_avg_pool2d(given.mean(1), (height, width))  # (B, h, w)
                shapes[name] = tuple(small.shape[1:])
                weights = small.flatten(1).cpu().double().numpy()  # (B, W)
                full = given.flatten(1).cpu().numpy()  # (B, V)
                added = [
                    member @ weights,
                    member @ weights**2,
                    full.sum(axis=0, dtype=np.float64),
                    np.einsum("bv,bv->v", full, full, dtype=np.float64),
                ]
                before = sums.get(name, [np.zeros(())] * len(added))
                sums[name] = [total + more for total, more in zip(before, added, strict=True)]
    found = {}
    for name in (name for name in modules if name in sums):
        with np.errstate(invalid="ignore"):
            mean, sd = _mean_and_sd(sums[name][:2], images[:, None])
        full_mean, full_sd = _mean_and_sd(sums[name][2:], images.sum())
        over_images = np.where(_varies(full_mean, full_sd), full_sd, 0)
        found[name] = ModuleWeights(
            modules[name].kind, shapes[name], images, mean, sd, full_mean, over_images
        )
    return found


def variation(weights: ModuleWeights) -> Variation:
    """Return how the weights of a module vary over the images of the set."""
    seen = weights.images > 0
    share = (weights.images[seen] / weights.images.sum())[:, None]  # (k, 1)
    mean, sd = weights.mean[seen], weights.sd[seen]  # (k, W)
    means = (share * mean).sum(axis=0)  # (W,)
    between = (share * (mean - means) ** 2).sum(axis=0)  # (W,), variances
    total = between + (share * sd**2).sum(axis=0)
    varies = _varies(means, np.sqrt(total))
    return Variation(
        means=means,
        mean=float(means.mean()),
        sd_between=float(weights.mean_over_images.std()),
        sd_over_images=float(weights.sd_over_images.mean()),
        share_by_class=(
            float(between[varies].sum() / total[varies].sum()) if varies.any() else np.nan
        ),
    )


def expected_share(images: np.ndarray) -> float:
    """Return the share that random labels explain on average, the expectation of eta squared.

    `images` are int64 (K,), of each class.
    """
    return float(((images > 0).sum() - 1) / max(1, images.sum() - 1))


def attention_table(weights: Mapping[str, ModuleWeights], classes: Sequence[str]) -> pd.DataFrame:
    """Return one row for each module, weight and class.

    The columns are layer, kind, index (of the channel, or of the position, row by row), class,
    mean_weight and sd_over_images, both of maps as `weights_by_class` averages them down.
    """
    tables = [
        pd.DataFrame(
            {
                "layer": layer,
                "kind": module.kind,
                "index": np.repeat(np.arange(module.mean.shape[1]), len(classes)),
                "class": list(classes) * module.mean.shape[1],
                "mean_weight": module.mean.T.ravel(),
                "sd_over_images": module.sd.T.ravel(),
            }
        )
        for layer, module in weights.items()
    ]
    return pd.concat(tables, ignore_index=True)


def variation_table(weights: Mapping[str, ModuleWeights]) -> pd.DataFrame:
    """Return one row for each module: the numbers of its `Variation`, and whether it is constant.

    The columns are module, kind, weights, mean, sd_between, sd_over_images, share_by_class (empty
    where nothing varies), share_by_chance (what random labels explain on average) and constant.
    """
    rows = []
    for name, module in weights.items():
        varying = variation(module)
        rows.append(
            {
                "module": name,
                "kind": module.kind,
                "weights": len(varying.means),
                "mean": varying.mean,
                "sd_between": varying.sd_between,
                "sd_over_images": varying.sd_over_images,
                "share_by_class": varying.share_by_class,
                "share_by_chance": expected_share(module.images),
                "constant": varying.constant,
            }
        )
    return pd.DataFrame(rows)


def _mean_and_sd(sums: Sequence[np.ndarray], count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd from a sum, a sum of squares, and how many there are."""
    total, squares = sums
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


def _varies(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return whether weights vary by what float32 resolves, which they are."""
    return sd > np.finfo(np.float32).eps * np.abs(mean)
