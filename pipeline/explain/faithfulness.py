"""Deletion and insertion: whether a heatmap's hot pixels are those that the network uses.

Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
https://arxiv.org/abs/1806.07421, section 4.2. Deletion removes the pixels of an image, the hottest
first; insertion puts them into an empty image. With a faithful heatmap the probability of the
predicted class falls soon, and rises soon.

The empty image is the mean that images are normalised by, for both. RISE inserts into a blurred
photograph; how far to blur is one more choice, and a blurred small image still shows its subject.
With one empty image both curves run between the same two probabilities, whatever the heatmap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.integrate import trapezoid
from torch import Tensor, nn

from pipeline.explain.cam import Kind, predicted_classes
from pipeline.explain.tested_heatmaps import (
    centre_heatmap,
    network_heatmaps,
    random_heatmaps,
    resized,
)
from pipeline.figures.style import HEATMAPS, style
from pipeline.models.layers import Classifier
from pipeline.statistics.image_means import CONFIDENCE, mean_over_images
from pipeline.storage.records import CONTROLS

EMPTY = 0.0  # the mean, once it is normalised
BETTER = {"deletion": "lower", "insertion": "higher"}
HEAT_DECIMALS = 6  # closer than that is a tie: interpolation rounds


@dataclass(frozen=True)
class Curves:
    """The probability of a class while an image loses, or gains, its hottest pixels."""

    share: np.ndarray  # float64 (S + 1,), of the pixels, from 0 to 1
    deletion: np.ndarray  # float64 (N, S + 1), with this share removed
    insertion: np.ndarray  # float64 (N, S + 1), with this share put in


def areas(curves: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the area (N,) in [0, 1] under each of `curves` (N, S + 1), by the trapezoidal rule."""
    return trapezoid(curves, share, axis=1)


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
) -> Curves:
    """Remove the pixels of images, and put them in, in a given order.

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
    deletion: list[np.ndarray] = []
    insertion: list[np.ndarray] = []
    for count in counts.tolist():
        hot = place < count
        for curve, emptied in ((deletion, hot), (insertion, ~hot)):
            probabilities = network(inputs.masked_fill(emptied, EMPTY)).double().softmax(1)
            curve.append(probabilities.gather(1, targets[:, None])[:, 0].cpu().numpy())
    return Curves(counts / pixels, np.stack(deletion, axis=1), np.stack(insertion, axis=1))


def faithfulness(
    network: Classifier,
    layers: Mapping[Kind, str],
    batches: Iterable[tuple[Tensor, np.ndarray]],
    steps: int,
    seed: int,
) -> dict[str, Curves]:
    """Return the curves of the predicted class for every kind of heatmap, by its name.

    Args:
        network: in evaluation mode.
        layers: which of `network.activation_layers()` each class activation map is taken at.
        batches: inputs float32 (B, C, H, W), normalised, and the images' ids int64 (B,).
        steps: see `deletion_and_insertion`.
        seed: of the random control and of the order of equally hot pixels, both as coarse as
            Grad-CAM's maps; they depend on the image's id besides, and are the same for every
            network with maps of the same size.
    """
    found: dict[str, list[Curves]] = {kind: [] for kind in HEATMAPS}
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
        kind: Curves(
            parts[0].share,
            np.concatenate([part.deletion for part in parts]),
            np.concatenate([part.insertion for part in parts]),
        )
        for kind, parts in found.items()
    }


def faithfulness_table(curves: Mapping[str, Curves]) -> pd.DataFrame:
    """Return one row for each kind of heatmap and curve.

    Every kind, the controls among them, is measured on the same images, so the differences from the
    controls are taken image by image: their intervals are far narrower than the intervals of two
    areas suggest.

    Columns: heatmap, curve, area (mean over images, in [0, 1]), low, high (interval of 95 %),
    images; then for each of `CONTROLS`, such as random: random_difference (mean over images of the
    area less that of the control, in [-1, 1]), random_low, random_high (interval of 95 %). They are
    empty in the rows of the controls themselves.
    """
    rows = []
    by_image = {
        (kind, curve): areas(getattr(followed, curve), followed.share)
        for kind, followed in curves.items()
        for curve in BETTER
    }
    for kind in curves:
        for curve in BETTER:
            area = mean_over_images(by_image[kind, curve], 0, 1)
            row = {"heatmap": kind, "curve": curve, "area": area.mean}
            row |= {"low": area.low, "high": area.high, "images": area.images}
            if kind not in CONTROLS:
                for control in CONTROLS:
                    difference = by_image[kind, curve] - by_image[control, curve]
                    more = mean_over_images(difference, -1, 1)
                    row |= {f"{control}_difference": more.mean}
                    row |= {f"{control}_low": more.low, f"{control}_high": more.high}
            rows.append(row)
    return pd.DataFrame(rows)


def draw_faithfulness(title: str, curves: Mapping[str, Curves]) -> Figure:
    """Draw the mean curves with intervals: deletion on the left, insertion on the right."""
    with style():
        figure = Figure(figsize=(11, 6.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        figure.suptitle(title)
        for axes, (curve, better) in zip(panels, BETTER.items(), strict=True):
            for kind, followed in curves.items():
                look, share = HEATMAPS[kind], followed.share
                mean = mean_over_images(getattr(followed, curve), 0, 1)
                axes.plot(share, mean.mean, look.line, color=look.colour, label=look.name)
                band = {"color": look.colour, "alpha": 0.12, "linewidth": 0}
                axes.fill_between(share, mean.low, mean.high, **band)
            axes.set_title(f"{curve}: {better} is better")
            done = "removed" if curve == "deletion" else "put in"
            axes.set_xlabel(f"share of the pixels {done}, hottest first")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        panels[0].set_ylabel("mean probability of the predicted class")
        handles, names = panels[0].get_legend_handles_labels()
        layout = {"ncols": len(names), "columnspacing": 1.2}
        figure.legend(handles, names, loc="outside lower center", **layout)
        note = f"removed: replaced by the mean colour\nbands: {CONFIDENCE:.0%} interval"
        panels[1].annotate(note, (1, 0.02), xycoords="axes fraction", ha="right", fontsize=11)
    return figure
