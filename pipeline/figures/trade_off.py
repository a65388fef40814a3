"""What accuracy costs: every architecture by parameters, work, time and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pipeline.comparison.compare import Comparison
from pipeline.comparison.summary import COSTS, ROUNDS_OF
from pipeline.figures.style import colours, draw_legend, markers, shortened, style
from pipeline.statistics.cost_ratio import cheaper
from pipeline.system.formats import interval_name

LEAST_APART = 1.05  # highest over lowest cost of a panel: else all points lie above each other
COLUMNS = 3
WIDEST_LINEAR = 5.0  # highest over lowest cost that a linear scale still shows well
TIMES = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
FRONT_COLOUR = "darkgrey"


def draw_trade_off(comparison: Comparison) -> Figure | None:
    """Draw test accuracy with its interval against each cost, with its range over rounds.

    An arrow leads from each baseline to its candidate. What has no baseline is a ring, in which a
    point that lies there too can be seen. The step line is the best accuracy to be had for a cost.
    Costs that are about the same for all are left out; None if all are.
    """
    entries = comparison.entries
    palette, candidates = colours(list(entries)), {pair.model for pair in comparison.pairs}
    looks: dict[str, dict[str, Any]] = {
        name: {"color": palette[name], "marker": shape, "markersize": 7, "markeredgecolor": "white"}
        if name in candidates or not candidates
        else {"color": palette[name], "marker": shape, "markersize": 9, "markerfacecolor": "white",
              "markeredgewidth": 2}
        for name, shape in markers(list(entries)).items()
    }  # fmt: skip
    drawn = {model: entry.summary for model, entry in entries.items()}
    accuracy = comparison.criteria.accuracy_name
    accuracies = [summary.accuracy.mean for summary in drawn.values()]
    values = {cost: [getattr(summary, cost) for summary in drawn.values()] for cost in COSTS}
    shown = [cost for cost in COSTS if max(values[cost]) > LEAST_APART * min(values[cost])]
    if not shown:
        return None

    longest = max(values["training_seconds"])
    unit, seconds = next((time for time in TIMES if longest >= 2 * time[1]), TIMES[-1])
    panels_of = {  # label, and how large its unit is
        "parameters": ("parameters", 1.0),
        "macs": ("multiply-accumulates for one image", 1.0),
        "latency_ms": ("latency of one image (ms)", 1.0),
        "training_seconds": (f"training of one run ({unit})", seconds),
        "inference_memory": ("memory of inference (MB)", 1e6),
        "training_memory": ("memory of training (MB)", 1e6),
    }
    with style():
        rows, columns = math.ceil(len(shown) / COLUMNS), min(len(shown), COLUMNS)
        figure = Figure(figsize=(14, 0.9 + 3.75 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes in panels.flat[len(shown) :]:
            axes.remove()
        for axes, cost in zip(panels.flat, shown, strict=False):
            label, size = panels_of[cost]
            for model, summary in drawn.items():
                value, estimate = getattr(summary, cost) / size, summary.accuracy
                colour = palette[model]
                axes.vlines(value, estimate.low, estimate.high, color=colour, linewidth=1.6)
                rounds = summary.rounds(cost) / size
                axes.hlines(estimate.mean, rounds.min(), rounds.max(), color=colour, linewidth=1.6)
                above = 4 if model in candidates else 3
                axes.plot(value, estimate.mean, linestyle="", zorder=above, **looks[model])
            for pair in comparison.pairs:
                ends = [entries[name].summary for name in (pair.model, pair.baseline)]
                end, start = ((getattr(one, cost) / size, one.accuracy.mean) for one in ends)
                arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1}
                axes.annotate(
                    "", end, start, arrowprops={**arrow, "shrinkA": 4, "shrinkB": 4}, zorder=2.5
                )
            _scale_costs(
                axes, np.concatenate([summary.rounds(cost) / size for summary in drawn.values()])
            )
            if cost in ROUNDS_OF and any(summary.busy for summary in drawn.values()):
                label += ", on a busy machine"
            else:
                on_it = pareto_front([summary.cost(cost) for summary in drawn.values()], accuracies)
                front = np.column_stack([np.array(values[cost]) / size, accuracies])[on_it]
                front = front[np.lexsort(front.T[::-1])]  # by cost, then by accuracy
                axes.step(
                    [*front[:, 0], axes.get_xlim()[1]], [*front[:, 1], front[-1, 1]], where="post",
                    color=FRONT_COLOUR, linewidth=1.4, zorder=1,
                )  # fmt: skip
            axes.set_xlabel(label)
            axes.grid(alpha=0.25)
        for axes in panels[:, 0]:
            axes.set_ylabel(f"{accuracy} (%)")
        interval = interval_name(comparison.criteria.confidence)
        figure.suptitle(
            f"{accuracy.capitalize()} (mean, {interval}) against costs: up and left is better"
        )

        legend = [
            {"label": shortened(name, 24), "linestyle": ""} | look for name, look in looks.items()
        ]
        if comparison.pairs:
            look = {"color": "black", "linewidth": 1, "marker": ">", "markevery": [1]}
            legend.append({"label": "from baseline to candidate", **look})
        legend.append({"label": "Pareto front: the best for the cost", "color": FRONT_COLOUR})
        draw_legend(figure, legend)
    return figure


def pareto_front(costs: Sequence[float | np.ndarray], accuracies: Sequence[float]) -> np.ndarray:
    """Return which of n points no other beats: none is as cheap and as accurate and better in one.

    Costs that are not distinguishable count as equal, see `cheaper`. Of equal points all are on the
    front, or none. The answer is bool (n,).
    """
    lower, accuracy = cheaper(costs), np.asarray(accuracies)  # (n, other)
    as_good = ~lower.T & (accuracy >= accuracy[:, None])
    better = lower | (accuracy > accuracy[:, None])
    return np.asarray(~(as_good & better).any(axis=1))


def _scale_costs(axes: Axes, costs: np.ndarray) -> None:
    """Scale the axis for `costs`, by their logarithm where they are far apart."""
    lowest, highest = min(costs), max(costs)
    if 0 < WIDEST_LINEAR * lowest < highest:
        axes.set_xscale("log")
        axes.set_xlim(lowest / 1.4, highest * 1.4)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.08 * (highest - lowest) or 0.5 * highest or 1
        axes.set_xlim(lowest - room, highest + room)
        # round numbers, so few that their labels don't touch
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if highest >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter())
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
