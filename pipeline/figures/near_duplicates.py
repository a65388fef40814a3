"""Pairs of images in two splits that show the same."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pipeline.data.arrays import SPLITS, Dataset, NearPair
from pipeline.figures.fonts import drawn_names
from pipeline.figures.style import panel_grid, shortened, show_image, style

MOST_PAIRS = 12
ACROSS = 3
NAME_WIDTH = 16


def draw_near_duplicates(dataset: Dataset) -> Figure:
    """Draw at most twelve pairs, those with test images first, each with its splits and classes."""
    pairs = shown_first(dataset.near_pairs)[:MOST_PAIRS]
    across, down = panel_grid(len(pairs), ACROSS)
    classes = drawn_names(dataset.classes)
    with style():
        figure = Figure(figsize=(3.9 * across + 0.2, 2.3 * down + 0.2), layout="constrained")
        parts = figure.subfigures(down, across, squeeze=False, wspace=0.06)
        for part, pair in zip(parts.flat, pairs, strict=False):
            part.set_facecolor("#F4F4F4")
            for side, axes in enumerate(part.subplots(1, 2)):
                row, place = pair.rows[side], pair.places[side]
                show_image(axes, np.asarray(dataset.images[row]))
                where = place if dataset.folds is None else f"fold {place}"
                name = shortened(classes[dataset.labels[row]], NAME_WIDTH)
                turned = ", mirrored" if side and pair.mirrored else ""
                axes.set_title(f"{where}{turned}\n{name}", fontsize=10)
    return figure


def shown_first(pairs: tuple[NearPair, ...]) -> list[NearPair]:
    """Return the pairs with a test image first, otherwise in their order."""
    return sorted(pairs, key=lambda pair: SPLITS[-1] not in pair.places)
