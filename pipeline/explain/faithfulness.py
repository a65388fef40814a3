"""Deletion and insertion: whether a heatmap's hot pixels are those that the network uses.

Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
https://arxiv.org/abs/1806.07421, section 4.2. Deletion removes the pixels of an image, the hottest
first; insertion puts them into an empty image. With a faithful heatmap the probability of the
predicted class falls soon, and rises soon.

What stands in for a removed pixel decides part of the result (Sturmfels, Lundberg and Lee,
"Visualizing the Impact of Feature Attribution Baselines", https://doi.org/10.23915/distill.00022),
so both curves are measured with two fills: the mean that images are normalised by, and the image
itself, blurred (Fong and Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful
Perturbation", https://arxiv.org/abs/1704.03296, section 4.1). Neither need be neutral: the
probability that the completely removed image keeps says how empty it is to the network.

With one fill both curves run between the same two probabilities, whatever the heatmap, so heatmaps
of the same network can be compared, image by image. Those of two networks can't: each network has
probabilities of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn

from pipeline.explain.cam import Kind, predicted_classes
from pipeline.explain.tested_heatmaps import (
    centre_heatmap,
    network_heatmaps,
    random_heatmaps,
    resized,
)
from pipeline.figures.style import COLOURS, HEATMAPS, style
from pipeline.models.layers import Classifier
from pipeline.statistics.image_means import CONFIDENCE, mean_differences, mean_over_images
from pipeline.storage.records import COMPARISONS, CURVES, FILLS, METHODS

HEAT_DECIMALS = 6  # closer than that is a tie: interpolation rounds
# Std of the Gaussian, as a share of the image's size: 10 of 224 pixels in section 4.1 would show a
# small image as it was. At 0.1 the networks of the default digits keep 0.4 for the class, here 0.1.
BLUR = 0.15
BETTER = {"deletion": "lower", "insertion": "higher"}
FILL_NAMES = {"mean": "the mean colour", "blur": "the blurred image"}
FILL_LOOKS = {"mean": (COLOURS[0], "o"), "blur": (COLOURS[1], "s")}  # colour and marker


@dataclass(frozen=True)
class Curves:
    """The probability of a class while an image loses, or gains, its hottest pixels."""

    share: np.ndarray  # float64 (S + 1,), of the pixels, from 0 to 1
    deletion: np.ndarray  # float64 (N, S + 1), with this share removed
    insertion: np.ndarray  # float64 (N, S + 1), with this share put in


Measured = Mapping[str, Mapping[str, Curves]]  # by fill, then kind of heatmap


def blurred(images: Tensor) -> Tensor:
    """Return `images`, float (B, C, H, W), each under a Gaussian with a std of `BLUR` of its size.

    Where it reaches over the edge, the pixels that there are count for more.
    """
    for axis in (2, 3):
        place = torch.arange(images.shape[axis], dtype=images.dtype, device=images.device)
        std = BLUR * images.shape[axis]
        weights = (-(((place[:, None] - place) / std) ** 2) / 2).softmax(1)
        images = torch.tensordot(images, weights, dims=([axis], [1])).movedim(-1, axis)
    return images


def areas(curves: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the area (N,) in [0, 1] under each of `curves` (N, S + 1), by the trapezoidal rule."""
    return np.trapezoid(curves, share, axis=1)


def hottest_first(heatmaps: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return the place of each pixel in the order from hot to cold, int64 (B, H, W) from 0.

    Of equally hot pixels of `heatmaps` (B, H, W) the one with the lower number in `ties`
    (B, H, W) comes first.
    """
    flat = (len(heatmaps), -1)
    heat = heatmaps.astype(np.float64).round(HEAT_DECIMALS).reshape(flat)
    order = np.lexsort((ties.reshape(flat), -heat), axis=1)
    return order.argsort(axis=1).reshape(heatmaps.shape)


@torch.no_grad()
def deletion_and_insertion(
    network: nn.Module, inputs: Tensor, targets: Tensor, places: np.ndarray, steps: int
) -> dict[str, Curves]:
    """Remove the pixels of images, and put them in, in a given order; return the curves by fill.

    Args:
        network: in evaluation mode.
        inputs: float32 (B, C, H, W), normalised.
        targets: int64 (B,), the classes whose probabilities are followed.
        places: (B, H, W), see `hottest_first`.
        steps: S; fewer if there are fewer pixels. Each is as many pixels as the others, or one
            more.
    """
    pixels = places[0].size
    counts = np.unique(np.linspace(0, pixels, steps + 1).round().astype(np.int64))
    place = torch.from_numpy(places).to(inputs.device)[:, None]  # (B, 1, H, W)
    # 0 is the mean, once it is normalised
    empty = {"mean": torch.zeros_like(inputs), "blur": blurred(inputs)}
    followed = targets.repeat(len(FILLS) * len(CURVES))[:, None]
    curves = []
    for count in counts.tolist():
        hot = place < count
        seen = torch.cat([
            torch.where(removed, empty[fill], inputs) for fill in FILLS for removed in (hot, ~hot)
        ])  # fmt: skip
        # all in one pass: on small images a pass costs as much as its images
        probabilities = network(seen).double().softmax(1).gather(1, followed)
        curves.append(probabilities.reshape(len(FILLS), len(CURVES), len(inputs)).cpu().numpy())
    share, by_fill = counts / pixels, np.stack(curves, axis=-1)  # (F, 2, B, S + 1)
    return {fill: Curves(share, *both) for fill, both in zip(FILLS, by_fill, strict=True)}


def faithfulness(
    network: Classifier,
    layers: Mapping[Kind, str],
    batches: Iterable[tuple[Tensor, np.ndarray]],
    steps: int,
    seed: int,
) -> dict[str, dict[str, Curves]]:
    """Return the curves of the predicted class, by fill and kind of heatmap.

    Args:
        network: in evaluation mode.
        layers: which of `network.activation_layers()` each class activation map is taken at.
        batches: inputs float32 (B, C, H, W), normalised, and the images' ids int64 (B,).
        steps: see `deletion_and_insertion`.
        seed: of the random control and of the order of equally hot pixels, both as coarse as
            Grad-CAM's maps; they depend on the image's id besides, and are the same for every
            network with maps of the same size.
    """
    found: dict[str, list[dict[str, Curves]]] = {kind: [] for kind in HEATMAPS}
    for inputs, ids in batches:
        size = (inputs.shape[2], inputs.shape[3])
        targets = predicted_classes(network, inputs)
        heatmaps = network_heatmaps(network, layers, inputs, targets)
        generators = [np.random.default_rng([seed, number]) for number in ids.tolist()]
        coarse = (heatmaps["grad_cam"].shape[1], heatmaps["grad_cam"].shape[2])
        # Where a map is 0 it must do as well as the random control, not better: see
        # `random_heatmaps`.
        ties = resized(random_heatmaps(coarse, generators), size)
        heatmaps["random"] = random_heatmaps(coarse, generators)
        heatmaps["centre"] = np.broadcast_to(centre_heatmap(size), (len(ids), *size)).copy()
        for kind in HEATMAPS:
            places = hottest_first(resized(heatmaps[kind], size), ties)
            found[kind].append(deletion_and_insertion(network, inputs, targets, places, steps))
    return {
        fill: {
            kind: Curves(
                parts[0][fill].share,
                np.concatenate([part[fill].deletion for part in parts]),
                np.concatenate([part[fill].insertion for part in parts]),
            )
            for kind, parts in found.items()
        }
        for fill in FILLS
    }


def areas_table(measured: Measured) -> pd.DataFrame:
    """Return one row for each fill, curve and kind of heatmap: the area under the mean curve.

    Columns: fill, curve, heatmap, area (mean over images, in [0, 1]), low, high (interval of 95 %),
    images.
    """
    rows = []
    for (fill, curve), values in _areas_by_image(measured).items():
        for kind, by_image in values.items():
            area = mean_over_images(by_image, 0, 1)
            rows.append((fill, curve, kind, area.mean, area.low, area.high, area.images))
    columns = ["fill", "curve", "heatmap", "area", "low", "high", "images"]
    return pd.DataFrame(rows, columns=columns)


def differences_table(measured: Measured) -> pd.DataFrame:
    """Return one row for each fill, curve and comparison of two kinds of heatmap.

    Every kind is measured on the same images, so they are compared image by image: the intervals
    are far narrower than those of two areas suggest. All comparisons of the network are corrected
    for their number.

    Columns: fill, curve, heatmap, against, advantage (mean over images, in [-1, 1], of how much
    smaller the heatmap's area is by deletion, or larger by insertion), low, high (interval), p,
    p_holm.
    """
    keys, differences = [], []
    for (fill, curve), values in _areas_by_image(measured).items():
        for kind, against in COMPARISONS:
            more = values[kind] - values[against]
            keys.append((fill, curve, kind, against))
            differences.append(-more if curve == "deletion" else more)
    found = mean_differences(np.stack(differences, axis=1))
    table = pd.DataFrame(keys, columns=["fill", "curve", "heatmap", "against"])
    numbers = {"advantage": found.mean, "low": found.low, "high": found.high}
    return table.assign(**numbers, p=found.p, p_holm=found.p_holm)


def empty_images_table(measured: Measured) -> pd.DataFrame:
    """Return one row for the complete image and for what each fill leaves of it.

    Columns: image (complete, or the fill), probability (of the class that the complete image is
    predicted to be, mean over images), low, high (interval of 95 %), images.
    """
    by_fill = {fill: next(iter(kinds.values())).deletion for fill, kinds in measured.items()}
    of_images = {"complete": by_fill[FILLS[0]][:, 0]}
    of_images |= {fill: deletion[:, -1] for fill, deletion in by_fill.items()}
    rows = []
    for name, values in of_images.items():
        mean = mean_over_images(values, 0, 1)
        rows.append((name, mean.mean, mean.low, mean.high, mean.images))
    return pd.DataFrame(rows, columns=["image", "probability", "low", "high", "images"])


def _areas_by_image(measured: Measured) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Return the area (N,) under each image's curve, by fill and curve, then by heatmap."""
    return {
        (fill, curve): {
            kind: areas(getattr(curves, curve), curves.share)
            for kind, curves in measured[fill].items()
        }
        for fill, curve in product(FILLS, CURVES)
    }


def draw_differences(title: str, measured: Measured) -> Figure:
    """Draw every comparison with its interval against 0: deletion left, insertion right."""
    table, kept = differences_table(measured), _kept(measured)
    names = [
        " against ".join(HEATMAPS[kind].name.removeprefix("control: ") for kind in pair)
        for pair in COMPARISONS
    ]
    with style():
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        figure.suptitle(title)
        for axes, curve in zip(panels, CURVES, strict=True):
            for shift, fill in zip((-0.15, 0.15), FILLS, strict=True):
                colour, marker = FILL_LOOKS[fill]
                rows = table[(table["curve"] == curve) & (table["fill"] == fill)]
                places = np.arange(len(rows)) + shift
                axes.hlines(places, rows["low"], rows["high"], color=colour)
                axes.plot(rows["advantage"], places, marker, color=colour)
            axes.axvline(0, color="#777777", linewidth=1, zorder=0)
            for end in (len(METHODS), 2 * len(METHODS)):
                axes.axhline(end - 0.5, color="lightgrey", linewidth=0.8)
            axes.set_title(curve)
            axes.set_xlabel("advantage of the first, in area\n(right of 0: it is more faithful)")
            axes.grid(axis="x", alpha=0.25)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        handles = [
            Line2D([], [], color=FILL_LOOKS[fill][0], marker=FILL_LOOKS[fill][1],
                   label=f"replaced by {FILL_NAMES[fill]} ({kept[fill]})")
            for fill in FILLS
        ]  # fmt: skip
        interval = f"mean, {CONFIDENCE:.0%} interval corrected for {len(table)} comparisons"
        figure.legend(handles=handles, title=interval, loc="outside lower center")
    return figure


def draw_curves(title: str, measured: Measured) -> Figure:
    """Draw the mean curves with intervals: a row for each fill, deletion left, insertion right."""
    empty, kept = empty_images_table(measured).set_index("image")["probability"], _kept(measured)
    with style():
        figure = Figure(figsize=(11, 10.5), layout="constrained")
        panels = figure.subplots(len(FILLS), len(CURVES), sharex=True, sharey=True)
        figure.suptitle(title)
        for (row, fill), (column, curve) in product(enumerate(FILLS), enumerate(CURVES)):
            axes = panels[row, column]
            for kind, followed in measured[fill].items():
                look, share = HEATMAPS[kind], followed.share
                mean = mean_over_images(getattr(followed, curve), 0, 1)
                axes.plot(share, mean.mean, look.line, color=look.colour, label=look.name)
                band = {"color": look.colour, "alpha": 0.12, "linewidth": 0}
                axes.fill_between(share, mean.low, mean.high, **band)
            axes.axhline(empty[fill], color="#777777", linewidth=1, zorder=0)
            axes.set_title(f"{curve}, replaced by {FILL_NAMES[fill]}\n{kept[fill]}")
        for axes, (curve, better) in zip(panels[-1], BETTER.items(), strict=True):
            done = "removed" if curve == "deletion" else "put in"
            axes.set_xlabel(f"share of the pixels {done}, hottest first ({better} is better)")
        for axes in panels[:, 0]:
            axes.set_ylabel("mean probability\nof the predicted class")
        panels[0, 0].set(xlim=(0, 1), ylim=(0, 1))
        panels[0, 0].xaxis.set_major_formatter(PercentFormatter(1))
        handles, names = panels[0, 0].get_legend_handles_labels()
        bands = f"bands: {CONFIDENCE:.0%} interval of each mean for itself"
        figure.legend(handles, names, title=bands, loc="outside lower center", ncols=len(names))
    return figure


def _kept(measured: Measured) -> dict[str, str]:
    """Return in words, by fill, what the predicted class keeps once all is removed."""
    rows: Any = empty_images_table(measured).itertuples()
    return {
        row.image: f"empty image keeps {row.probability:.2f}, {row.low:.2f} to {row.high:.2f}"
        for row in rows
    }
