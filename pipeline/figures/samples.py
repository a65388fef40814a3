"""Training images of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.figures.style import shortened, show_image, style

MOST_CLASSES = 10
IMAGES_EACH = 10
SIDE = 0.92  # of an image, where the next one starts at 1


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
        axes = figure.subplots()  # one for all images: a hundred of them would take seconds
        for row, label in enumerate(spread):
            members = rows[labels[rows] == label]
            chosen = generator.permutation(members)[:IMAGES_EACH]
            for column, image in enumerate(chosen):
                extent = (column, column + SIDE, row + SIDE, row)
                show_image(axes, np.asarray(images[image]), extent)
        axes.set(xlim=(0, IMAGES_EACH), ylim=(len(spread), 0))
        names = [shortened(classes[label]) for label in spread]
        axes.set_yticks(np.arange(len(spread)) + SIDE / 2, names)
        axes.tick_params(length=0)
    return figure
