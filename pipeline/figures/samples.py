"""Training images of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.figures.style import shortened, show_image, style

MOST_CLASSES = 10
IMAGES_EACH = 10


def draw_samples(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, classes: Sequence[str], seed: int
) -> Figure:
    """Draw a few images of each class, at most ten classes, one row each.

    `images` are uint8 (N, H, W, C), `labels` int64 (N,); those in `rows` are chosen from.
    """
    generator = np.random.default_rng(seed)
    spread = np.linspace(0, len(classes) - 1, min(len(classes), MOST_CLASSES)).round().astype(int)
    size = (0.85 * IMAGES_EACH + 1.4, 0.87 * len(spread) + 0.1)
    with style():
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(spread), IMAGES_EACH, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for row, label in zip(panels, spread, strict=True):
            members = rows[labels[rows] == label]
            chosen = generator.permutation(members)[:IMAGES_EACH]
            row[0].set_axis_on()
            for axes, image in zip(row, chosen, strict=False):
                axes.set_axis_on()
                show_image(axes, np.asarray(images[image]))
            row[0].set_ylabel(
                shortened(classes[label]), rotation=0, ha="right", va="center", labelpad=8
            )
    return figure
