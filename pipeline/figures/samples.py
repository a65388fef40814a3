"""Training images of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.figures.style import (
    shortened,
    show_image,
    style,
)

SAMPLE_ROWS = 10
SAMPLE_COLUMNS = 10


def draw_samples(
    images: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    classes: Sequence[str],
    seed: int,
) -> Figure:
    """Draw a few images of each class, at most ten classes, one row each.

    Args:
        images: uint8 (N, H, W, C), possibly memory-mapped.
        labels: int64 (N,).
        rows: row numbers of the images to choose from.
        classes: the K names.
        seed: of the choice of images.
    """
    generator = np.random.default_rng(seed)
    spread = np.linspace(0, len(classes) - 1, min(len(classes), SAMPLE_ROWS)).round().astype(int)
    with style():
        figure = Figure(
            figsize=(0.85 * SAMPLE_COLUMNS + 1.4, 0.87 * len(spread) + 0.1), layout="constrained"
        )
        panels = figure.subplots(len(spread), SAMPLE_COLUMNS, squeeze=False)
        for row, label in enumerate(spread):
            members = rows[labels[rows] == label]
            chosen = generator.permutation(members)[:SAMPLE_COLUMNS]
            for column, axes in enumerate(panels[row]):
                if column < len(chosen):
                    show_image(axes, np.asarray(images[chosen[column]]))
                else:
                    axes.set_axis_off()
            panels[row, 0].set_axis_on()
            panels[row, 0].set_ylabel(
                shortened(classes[label]), rotation=0, ha="right", va="center", labelpad=8
            )
    return figure
