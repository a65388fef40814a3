"""Test accuracies of every run, and each difference to a baseline."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.comparison.compare import Comparison, Pair
from pipeline.figures.style import colours, draw_runs, shortened, style
from pipeline.system.formats import interval_name

LETTER = 0.08  # inches that a letter of a name takes, about


def draw_accuracies(comparison: Comparison) -> Figure:
    """Draw every run's accuracy, the mean with its interval, and each difference to a baseline.

    A difference has the verdict beside it.
    """
    entries, pairs = comparison.entries, comparison.pairs
    interval = interval_name(comparison.criteria.confidence)
    with style():
        palette = colours(list(entries))
        names = [shortened(name, 36) for name in entries]
        columns = 2 if pairs else 1
        width = (3.6 + LETTER * max(map(len, names))) * columns
        figure = Figure(
            figsize=(width, 1.5 + 0.5 * max(len(entries), len(pairs))), layout="constrained"
        )
        panels = figure.subplots(1, columns, squeeze=False)[0]
        for axes in panels:
            axes.set_ylim(len(entries) - 0.4, -0.6)
            axes.grid(axis="x", alpha=0.25)

        axes = panels[0]
        for row, (model, entry) in enumerate(entries.items()):
            estimate, colour = entry.summary.accuracy, palette[model]
            axes.hlines(row, estimate.low, estimate.high, color=colour, linewidth=2.5)
            axes.plot(estimate.mean, row, "D", color=colour, markersize=8)
        for row, (model, entry) in enumerate(entries.items()):  # when the intervals have the width
            if len(entry.summary.accuracies) > 1:
                draw_runs(axes, row, entry.summary.accuracies, palette[model])
        axes.set_yticks(range(len(entries)), names)
        axes.set_xlabel(f"{comparison.criteria.accuracy_name} (%)")
        several = any(len(entry.summary.accuracies) > 1 for entry in entries.values())
        dots = f"; dots: {comparison.design.unit}s" if several else ""
        axes.set_title(f"Mean, {interval}{dots}", fontsize=11)
        if pairs:
            axes = panels[1]
            labels = [
                f"{shortened(one.model, 24)}\nminus {shortened(one.baseline, 24)}" for one in pairs
            ]
            _draw_gains(axes, labels, pairs, comparison)
            beside = axes.get_yaxis_transform()
            for row, pair in enumerate(pairs):
                axes.text(1.02, row, pair.judgement.outcome, transform=beside, va="center")
    return figure


def draw_gains(comparison: Comparison, candidate: str) -> Figure | None:
    """Draw the gain of the candidate over each of its baselines; None if it has none."""
    pairs = comparison.entries[candidate].pairs
    if not pairs:
        return None
    with style():
        # as narrow as a telephone: the first figure is to be read without enlarging it
        figure = Figure(figsize=(4.6, 1.1 + 0.5 * len(pairs)), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="x", alpha=0.25)
        labels = [f"over {shortened(one.baseline, 16)}:\n{one.judgement.outcome}" for one in pairs]
        _draw_gains(axes, labels, pairs, comparison)
        figure.suptitle(axes.get_title(), fontsize=11)  # over the labels too: it is wide
        axes.set_title("")
    return figure


def _draw_gains(
    axes: Axes, labels: Sequence[str], pairs: Sequence[Pair], comparison: Comparison
) -> None:
    """Draw the gain of each pair beside its label, with a dot for each run."""
    margin = comparison.criteria.margin
    palette = colours(list(comparison.entries))
    for row, pair in enumerate(pairs):
        gain = pair.gain
        axes.hlines(row, gain.low, gain.high, color=palette[pair.model], linewidth=2.5)
        axes.plot(gain.gain, row, "D", color=palette[pair.model], markersize=7)
    axes.axvline(0, color="black", linewidth=1)
    if margin > 0:
        axes.axvline(margin, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            f"margin {margin:g}", (margin, 1), xycoords=("data", "axes fraction"),
            xytext=(4, -2), textcoords="offset points", va="top", fontsize=10,
        )  # fmt: skip
        low, high = axes.get_xlim()
        axes.set_xlim(low, max(high, margin + 0.6 * (margin - low)))  # room for it
    for row, pair in enumerate(pairs):
        if pair.gain.seeds > 1:
            draw_runs(axes, row, pair.gain.gain_by_seed, palette[pair.model])
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("gain (percentage points)")
    title = "Gain, without interval"
    if any(pair.gain.seeds > 1 for pair in pairs):
        interval = interval_name(pairs[0].gain.confidence)
        title = f"Gain, {interval}; a dot per {comparison.design.unit}"
    axes.set_title(title, fontsize=11)
