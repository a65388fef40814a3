"""Where attention helps and hurts: the difference of recall, class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.comparison.compare import ClassDifference, Comparison
from pipeline.figures.fonts import drawn_names
from pipeline.figures.style import colours, draw_legend, panel_grid, shortened, style
from pipeline.system.formats import interval_name

MOST_CLASSES = 20
MOST_EACH_WAY = 10
PANELS_ACROSS = 2
UNCERTAIN = "darkgrey"


def draw_class_differences(comparison: Comparison) -> Figure | None:
    """Draw how each pair's recall differs in each class, the largest gain first.

    Of many classes only those that rose and fell most are drawn. A class whose interval includes 0
    is grey; so are all of a single seed, which has none.

    Returns:
        None if there is no pair.
    """
    pairs = comparison.pairs
    if not pairs:
        return None
    with style():
        palette = colours(list(comparison.entries))
        names = dict(zip(comparison.classes, drawn_names(comparison.classes), strict=True))
        shown = [moved_most(pair.by_class) for pair in pairs]
        across, down = panel_grid(len(pairs), PANELS_ACROSS)
        height = 1.1 + 0.33 * max(map(len, shown))
        figure = Figure(figsize=(max(5.5 * across, 7), height * down + 0.8), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharex=True)
        for axes in panels.flat[len(pairs) :]:
            axes.set_axis_off()
        for position, (axes, pair, classes) in enumerate(
            zip(panels.flat, pairs, shown, strict=False)
        ):
            axes.axvline(0, color="black", linewidth=1)
            for row, found in enumerate(classes):
                low, high = found.difference.low, found.difference.high
                colour = palette[pair.model] if low > 0 or high < 0 else UNCERTAIN
                axes.hlines(row, low, high, color=colour, linewidth=2)
                axes.plot(found.difference.mean, row, "D", color=colour, markersize=6)
            axes.set_yticks(
                range(len(classes)), [shortened(names[found.name], 24) for found in classes]
            )
            axes.set_ylim(len(classes) - 0.4, -0.6)
            axes.grid(axis="x", alpha=0.25)
            title = f"{shortened(pair.model, 30)}\nminus {shortened(pair.baseline, 30)}"
            tested = sum(not math.isnan(found.difference.mean) for found in pair.by_class)
            if len(classes) < tested:
                title += f"\nlargest differences: {len(classes)} of {tested} classes"
                axes.axhline(MOST_EACH_WAY - 0.5, color="grey", linewidth=0.8, linestyle=":")
            axes.set_title(title)
            if position + across >= len(pairs):
                axes.set_xlabel("difference of recall (percentage points)")
                axes.tick_params(labelbottom=True)
        if all(pair.gain.seeds == 1 for pair in pairs):
            legend = [{"label": "a single seed: no interval", "color": UNCERTAIN, "marker": "D"}]
        else:
            interval = interval_name(comparison.criteria.confidence)
            colour = palette[pairs[0].model]
            legend = [
                {"label": f"in colour: {interval} excludes 0", "color": colour, "marker": "D"},
                {"label": "grey: includes 0", "color": UNCERTAIN, "marker": "D"},
            ]
        draw_legend(figure, legend)
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
