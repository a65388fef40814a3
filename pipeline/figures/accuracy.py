"""Test accuracies of every run, and each difference to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.comparison import doubts
from pipeline.comparison.compare import Comparison, Pair
from pipeline.comparison.summary import Summary
from pipeline.figures.style import (
    colours,
    shortened,
    style,
)

LETTER = 0.08  # inches that a letter of a name takes, about


def draw_accuracies(comparison: Comparison) -> Figure:
    """Draw every run's accuracy, the mean with its interval, and each difference to a baseline.

    A difference stands beside the accuracy of its architecture with the verdict, ensembles
    stand beneath the architectures, hollow.
    """
    entries, ensembles = comparison.entries, comparison.ensembles
    pairs = [entry.pair for entry in entries.values() if entry.pair]
    rows = len(entries) + len(ensembles)
    with style():
        palette = colours(list(entries))
        named = [ensemble.label for ensemble in ensembles]
        names = [shortened(name, 36) for name in (*entries, *named)]
        panels_across = 2 if pairs else 1
        wide = (3.6 + LETTER * max(map(len, names))) * panels_across
        figure = Figure(figsize=(wide, 1.5 + 0.5 * rows), layout="constrained")
        panels = figure.subplots(1, panels_across, squeeze=False)
        axes = panels[0, 0]
        for position, entry in enumerate(entries.values()):
            colour = palette[entry.model]
            _draw_summary(axes, position, entry.summary, colour, filled_with=colour)
        for position, ensemble in enumerate(ensembles, start=len(entries)):
            colour = palette[ensemble.model] if ensemble.model else "dimgrey"
            _draw_summary(axes, position, ensemble.summary, colour, filled_with="white")
        if ensembles:
            axes.axhline(len(entries) - 0.4, color="grey", linewidth=0.8)
        axes.set_yticks(range(rows), names)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlabel("test accuracy (%)")
        interval = f"{100 * comparison.judgement.confidence:g} % interval"
        axes.set_title(f"Mean, {interval}; dots: {comparison.design.unit}s", fontsize=11)
        axes.grid(axis="x", alpha=0.25)
        if pairs:
            _draw_differences(panels[0, 1], pairs, palette, comparison)
            panels[0, 1].set_ylim(rows - 0.4, -0.6)
            panels[0, 1].set_title(f"Difference to the baseline, {interval}", fontsize=11)
    return figure


def _draw_summary(
    axes: Axes, position: int, summary: Summary, colour: str, filled_with: str
) -> None:
    estimate = summary.accuracy
    axes.hlines(position, estimate.low, estimate.high, color=colour, linewidth=2.5)
    if len(summary.accuracies) > 1:
        axes.plot(
            summary.accuracies, [position + 0.22] * len(summary.accuracies), "o", color=colour,
            markersize=5, alpha=0.55, markeredgewidth=0,
        )  # fmt: skip
    axes.plot(
        estimate.mean, position, "D", color=colour, markersize=7, markerfacecolor=filled_with,
        markeredgewidth=1.8,
    )  # fmt: skip


def _draw_differences(
    axes: Axes, pairs: Sequence[Pair], palette: Mapping[str, str], comparison: Comparison
) -> None:
    margin = comparison.judgement.margin
    rows = [list(palette).index(pair.model) for pair in pairs]
    for position, pair in zip(rows, pairs, strict=True):
        colour = palette[pair.model]
        difference = pair.difference
        axes.hlines(position, difference.low, difference.high, color=colour, linewidth=2.5)
        axes.plot(difference.mean, position, "D", color=colour, markersize=7)
        judged = doubts.judged(pair, comparison)
        axes.text(
            1.02, position, judged, transform=axes.get_yaxis_transform(), va="center",
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    if margin > 0:
        axes.axvline(margin, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            f"margin {margin:g}", (margin, 1), xycoords=("data", "axes fraction"),
            xytext=(4, -2), textcoords="offset points", va="top", fontsize=10,
        )  # fmt: skip
    named = [[shortened(name, 24) for name in (pair.model, pair.baseline)] for pair in pairs]
    axes.set_yticks(rows, [f"{candidate}\nminus {baseline}" for candidate, baseline in named])
    axes.set_xlabel("difference (percentage points)")
    axes.grid(axis="x", alpha=0.25)
