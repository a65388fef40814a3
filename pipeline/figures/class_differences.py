"""Where attention helps and hurts: the difference of recall, class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.comparison.compare import ClassDifference, Comparison, Pair
from pipeline.figures.style import colours, draw_legend, shortened, style

MOST_CLASSES = 20
MOST_EACH_WAY = 10
PANELS_ACROSS = 2
UNCERTAIN = "darkgrey"


def draw_class_differences(comparison: Comparison) -> Figure | None:
    """Draw how each pair's recall differs in each class, the largest gain first.

    Of many classes only those that rose and fell most are drawn. A class whose interval holds 0 is
    grey.

    Returns:
        None if there is no pair.
    """
    pairs = [entry.pair for entry in comparison.entries.values() if entry.pair]
    if not pairs:
        return None
    with style():
        palette = colours(list(comparison.entries))
        moved = [moved_most(pair.by_class) for pair in pairs]
        columns = min(PANELS_ACROSS, len(pairs))
        rows = -(-len(pairs) // columns)
        height = 1.1 + 0.33 * max(map(len, moved))
        figure = Figure(figsize=(max(5.5 * columns, 7), height * rows + 0.8), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for axes in panels.flat[len(pairs) :]:
            axes.set_axis_off()
        for position, (pair, of_pair) in enumerate(zip(pairs, moved, strict=True)):
            axes = panels.flat[position]
            _draw_pair(axes, pair, of_pair, palette[pair.model])
            if position + columns >= len(pairs):
                axes.set_xlabel("difference of recall (percentage points)")
                axes.tick_params(labelbottom=True)
        interval = f"{100 * comparison.judgement.confidence:g} % interval"
        named = {
            f"in colour: {interval} without 0": palette[pairs[0].model],
            "grey: with 0": UNCERTAIN,
        }
        draw_legend(
            figure,
            [
                Line2D([], [], color=colour, marker="D", label=name)
                for name, colour in named.items()
            ],
        )
    return figure


def moved_most(by_class: Sequence[ClassDifference]) -> list[ClassDifference]:
    """Return the classes to draw, the largest gain first: all, or those at both ends.

    Classes without a test image are left out.
    """
    known = [found for found in by_class if not math.isnan(found.difference.mean)]
    known.sort(key=lambda found: -found.difference.mean)
    if len(known) <= MOST_CLASSES:
        return known
    return [*known[:MOST_EACH_WAY], *known[-MOST_EACH_WAY:]]


def _draw_pair(axes: Axes, pair: Pair, moved: Sequence[ClassDifference], colour: str) -> None:
    axes.axvline(0, color="black", linewidth=1)
    for row, found in enumerate(moved):
        difference = found.difference
        certain = difference.low > 0 or difference.high < 0
        drawn = colour if certain else UNCERTAIN
        axes.hlines(row, difference.low, difference.high, color=drawn, linewidth=2)
        axes.plot(difference.mean, row, "D", color=drawn, markersize=6)
    axes.set_yticks(range(len(moved)), [shortened(found.name, 24) for found in moved])
    axes.set_ylim(len(moved) - 0.4, -0.6)
    title = f"{shortened(pair.model, 30)}\nminus {shortened(pair.baseline, 30)}"
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.25)
    if len(moved) < len(pair.by_class):
        axes.set_title(
            f"{title}\n{len(moved)} of {len(pair.by_class)} classes: those that moved most"
        )
        axes.axhline(MOST_EACH_WAY - 0.5, color="grey", linewidth=0.8, linestyle=":")
