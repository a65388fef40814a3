"""Reliability diagrams: whether the networks are right as often as they are sure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.comparison.compare import Comparison
from pipeline.evaluation.calibration import BINS, Reliability
from pipeline.figures.style import colours, draw_legend, shortened, style

PANELS_ACROSS = 4
FEW = 20  # answers in a bin, below which their accuracy says little


def draw_reliability(comparison: Comparison) -> Figure:
    """Draw accuracy against confidence for each architecture, all runs together.

    Beneath each diagram stands the share of the answers in each bin; a thin line is the ensemble
    of the architecture's seeds. Lines leave out bins with fewer than `FEW` answers.
    """
    entries = comparison.entries
    ensembles = {ensemble.model: ensemble for ensemble in comparison.ensembles if ensemble.model}
    with style():
        palette = colours(list(entries))
        columns = min(PANELS_ACROSS, len(entries))
        rows = -(-len(entries) // columns)
        figure = Figure(figsize=(max(3.3 * columns, 6.6), 4.6 * rows + 0.7), layout="constrained")
        panels = figure.subplots(
            2 * rows, columns, squeeze=False, sharex=True, height_ratios=[3, 1] * rows
        )
        for position, entry in enumerate(entries.values()):
            row, column = divmod(position, columns)
            diagram, shares = panels[2 * row, column], panels[2 * row + 1, column]
            summary = entry.summary
            if entry.model in ensembles:
                together = ensembles[entry.model].summary.reliability
                _draw_line(diagram, together, "dimgrey", linewidth=1.0, markersize=3)
            _draw_line(diagram, summary.reliability, palette[entry.model], 2.0, markersize=6)
            _draw_few(diagram, summary.reliability, palette[entry.model])
            _scale(diagram)
            diagram.set_title(f"{shortened(entry.model, 24)}\nECE {100 * summary.ece:.2f} %")
            _draw_shares(shares, summary.reliability, palette[entry.model])
            if column == 0:
                diagram.set_ylabel("accuracy (%)")
                shares.set_ylabel("answers (%)")
            if position + columns >= len(entries):
                shares.set_xlabel("confidence (%)")
                shares.tick_params(labelbottom=True)
        for position in range(len(entries), rows * columns):
            row, column = divmod(position, columns)
            panels[2 * row, column].set_axis_off()
            panels[2 * row + 1, column].set_axis_off()
        draw_legend(figure, _handles(bool(ensembles)))
    return figure


def _draw_line(
    axes: Axes, found: Reliability, colour: str, linewidth: float, markersize: float
) -> None:
    many = found.counts >= FEW
    axes.plot(
        100 * found.confidence[many], 100 * found.accuracy[many], "o-", color=colour,
        linewidth=linewidth, markersize=markersize,
    )  # fmt: skip


def _draw_few(axes: Axes, found: Reliability, colour: str) -> None:
    few = (found.counts > 0) & (found.counts < FEW)
    axes.plot(
        100 * found.confidence[few], 100 * found.accuracy[few], "o", color=colour,
        markerfacecolor="white", markersize=6, markeredgewidth=1.2,
    )  # fmt: skip


def _scale(axes: Axes) -> None:
    axes.plot([0, 100], [0, 100], "--", color="black", linewidth=1, zorder=1)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_xticks(range(0, 101, 25))
    axes.set_yticks(range(0, 101, 25))
    axes.grid(alpha=0.25)


def _draw_shares(axes: Axes, found: Reliability, colour: str) -> None:
    share = 100 * found.counts / found.counts.sum()
    axes.bar(
        100 * np.arange(BINS) / BINS, share, width=100 / BINS, align="edge", color=colour,
        edgecolor="white", linewidth=0.8,
    )  # fmt: skip
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])


def _handles(with_ensembles: bool) -> list[Line2D]:
    diagonal = Line2D(
        [], [], color="black", linestyle="--", linewidth=1, label="right as often as sure"
    )
    few = Line2D(
        [], [], color="grey", marker="o", linestyle="", markerfacecolor="white",
        label=f"hollow: fewer than {FEW} answers",
    )  # fmt: skip
    together = Line2D(
        [], [], color="dimgrey", linewidth=1, marker="o", markersize=3,
        label="ensemble of its seeds",
    )  # fmt: skip
    return [diagonal, few, *([together] if with_ensembles else [])]
