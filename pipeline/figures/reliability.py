"""Reliability diagrams: whether confidence is as high as accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.comparison.compare import Comparison
from pipeline.evaluation.calibration import BINS
from pipeline.figures.style import colours, draw_legend, panel_grid, shortened, style

PANELS_ACROSS = 4
FEW = 20  # predictions in a bin, below which their accuracy says little
ENSEMBLE = {"color": "dimgrey", "linewidth": 1.0, "marker": "o", "markersize": 3}
DIAGONAL = {"color": "black", "linewidth": 1, "linestyle": "--"}


def draw_reliability(comparison: Comparison) -> Figure:
    """Draw accuracy against confidence for each architecture, all runs together.

    Beneath each diagram stands the share of predictions in each bin; a thin line is the ensemble of
    the architecture's seeds. Lines leave out bins with fewer than `FEW` predictions.
    """
    entries = comparison.entries
    ensembles = {ensemble.model: ensemble for ensemble in comparison.ensembles if ensemble.model}
    with style():
        palette = colours(list(entries))
        across, down = panel_grid(len(entries), PANELS_ACROSS)
        figure = Figure(figsize=(max(3.3 * across, 6.6), 4.6 * down + 0.7), layout="constrained")
        panels = figure.subplots(
            2 * down, across, squeeze=False, sharex=True, height_ratios=[3, 1] * down
        )
        # a diagram and its shares for each architecture, row by row
        both = panels.reshape(down, 2, across).swapaxes(1, 2).reshape(-1, 2)
        for axes in both[len(entries) :].flat:
            axes.set_axis_off()
        for position, (model, entry) in enumerate(entries.items()):
            diagram, shares = both[position]
            colour, found = palette[model], entry.summary.reliability
            lines = [(found, {"color": colour, "linewidth": 2.0, "marker": "o", "markersize": 6})]
            if model in ensembles:
                lines.insert(0, (ensembles[model].summary.reliability, ENSEMBLE))
            for line, look in lines:
                many = line.counts >= FEW
                diagram.plot(100 * line.confidence[many], 100 * line.accuracy[many], **look)
            few = (found.counts > 0) & (found.counts < FEW)
            diagram.plot(
                100 * found.confidence[few], 100 * found.accuracy[few], "o", color=colour,
                markerfacecolor="white", markersize=6, markeredgewidth=1.2,
            )  # fmt: skip
            diagram.plot([0, 100], [0, 100], zorder=1, **DIAGONAL)
            diagram.set(
                xlim=(-3, 103), ylim=(-3, 103), xticks=range(0, 101, 25), yticks=range(0, 101, 25)
            )
            diagram.grid(alpha=0.25)
            diagram.set_title(f"{shortened(model, 24)}\nECE {100 * entry.summary.ece:.2f} %")
            shares.bar(
                100 * np.arange(BINS) / BINS, 100 * found.counts / found.counts.sum(),
                width=100 / BINS, align="edge", color=colour, edgecolor="white", linewidth=0.8,
            )  # fmt: skip
            shares.set(ylim=(0, 100), yticks=[0, 50, 100])
            if position % across == 0:
                diagram.set_ylabel("accuracy (%)")
                shares.set_ylabel("predictions\n(%)")
            shares.tick_params(labelbottom=True)
            if position + across >= len(entries):
                shares.set_xlabel("confidence (%)")
        legend: list[dict[str, Any]] = [
            {"label": "perfect calibration", **DIAGONAL},
            {
                "label": f"hollow: fewer than {FEW} predictions", "color": "grey", "marker": "o",
                "linestyle": "", "markerfacecolor": "white",
            },
        ]  # fmt: skip
        if ensembles:
            legend.append({"label": "ensemble of its seeds", **ENSEMBLE})
        draw_legend(figure, legend)
    return figure
