"""Confusion matrices of all architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import confusion_counts
from pipeline.figures.style import panel_grid, shortened, style

MOST_ANNOTATED_CLASSES = 12
MOST_NAMED_CLASSES = 20
PANELS_ACROSS = 2


def draw_confusion_matrices(
    runs: Mapping[str, Sequence[Run]], classes: Sequence[str], design: Design
) -> Figure:
    """Draw each architecture's confusion matrix: counts over all runs, shaded by row share.

    All panels share one colour scale, the share of the true class from 0 to 100 %.
    """
    annotated = len(classes) <= MOST_ANNOTATED_CLASSES
    names = [shortened(name, 12) for name in classes]
    upright = max(map(len, names)) <= 2
    with style():
        across, down = panel_grid(len(runs), PANELS_ACROSS)
        side = 5.6 if annotated else 6.0
        figure = Figure(figsize=(side * across + 0.9, side * down), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False)
        for axes in panels.flat[len(runs) :]:
            axes.set_axis_off()
        for position, (model, model_runs) in enumerate(runs.items()):
            axes = panels.flat[position]
            counts = confusion_counts(model_runs)
            share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
            axes.set_title(f"{shortened(model, 30)} ({design.described(len(model_runs))})")
            if annotated:
                size = 10 if len(counts) <= 10 and counts.max() < 1000 else 8
                for (true, predicted), count in np.ndenumerate(counts):
                    if count:
                        axes.text(
                            predicted, true, str(count), ha="center", va="center", fontsize=size,
                            color="white" if share[true, predicted] > 55 else "black",
                        )  # fmt: skip
            if len(classes) <= MOST_NAMED_CLASSES:
                axes.set_yticks(range(len(names)), names)
                axes.set_xticks(
                    range(len(names)), names, rotation=0 if upright else 45,
                    ha="center" if upright else "right", rotation_mode="anchor",
                )  # fmt: skip
            if position + across >= len(runs):
                axes.set_xlabel("predicted class")
            if position % across == 0:
                axes.set_ylabel("true class")
        bar = figure.colorbar(image, ax=panels, shrink=0.5, aspect=30)
        bar.set_label("share of the true class (%)")
    return figure
