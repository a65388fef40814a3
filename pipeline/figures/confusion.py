"""Confusion matrices of all architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import confusion_counts
from pipeline.figures.style import (
    shortened,
    style,
)

MOST_ANNOTATED_CLASSES = 12
MOST_NAMED_CLASSES = 20


def draw_confusion_matrices(
    runs: Mapping[str, Sequence[Run]], classes: Sequence[str], design: Design
) -> Figure:
    """Draw each architecture's confusion matrix: counts over all runs, shaded by row share.

    All panels share one colour scale, the share of the true class from 0 to 100 %.
    """
    with style():
        columns = min(2, len(runs))
        rows = -(-len(runs) // columns)
        annotated = len(classes) <= MOST_ANNOTATED_CLASSES
        side = 5.6 if annotated else 6.0
        figure = Figure(figsize=(side * columns + 0.9, side * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(runs) :]:
            axes.set_axis_off()
        for position, (model, of_model) in enumerate(runs.items()):
            axes = panels.flat[position]
            counts = confusion_counts(of_model)
            share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            drawn = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
            axes.set_title(f"{shortened(model, 30)} ({design.described(len(of_model))})")
            if annotated:
                _write_counts(axes, counts, share)
            _name_classes(axes, classes)
            if position // columns == rows - 1 or position + columns >= len(runs):
                axes.set_xlabel("predicted class")
            if position % columns == 0:
                axes.set_ylabel("true class")
        bar = figure.colorbar(drawn, ax=panels, shrink=0.5, aspect=30)
        bar.set_label("share of the true class (%)")
    return figure


def _write_counts(axes: Axes, counts: np.ndarray, share: np.ndarray) -> None:
    size = 10 if len(counts) <= 10 and counts.max() < 1000 else 8
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[true, predicted] > 55 else "black"
            axes.text(
                predicted, true, str(count), ha="center", va="center", color=colour, fontsize=size
            )


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    if len(classes) > MOST_NAMED_CLASSES:
        return
    names = [shortened(name, 12) for name in classes]
    upright = max(len(name) for name in names) <= 2
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(
        range(len(names)), names, rotation=0 if upright else 45,
        ha="center" if upright else "right", rotation_mode="anchor",
    )  # fmt: skip
