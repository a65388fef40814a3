"""What accuracy costs: every architecture and ensemble by parameters, work and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from pipeline.comparison.compare import Comparison
from pipeline.comparison.summary import Summary
from pipeline.figures.style import colours, draw_legend, markers, shortened, style

WIDEST_LINEAR = 5.0  # highest over lowest cost that a linear scale still shows well
TIMES = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
FRONT_COLOUR = "darkgrey"


@dataclass(frozen=True)
class Point:
    """What is drawn of one architecture or ensemble."""

    summary: Summary
    colour: str
    marker: str
    filled_with: str


@dataclass(frozen=True)
class Cost:
    """One kind of cost.

    Attributes:
        label: what it is, with its unit.
        of: returns that of a summary, in this unit.
    """

    label: str
    of: Callable[[Summary], float]


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> np.ndarray:
    """Return which of n points no other beats: none is as cheap and as accurate and better in one.

    Args:
        costs: n numbers, lower is better.
        accuracies: n numbers, higher is better.

    Returns:
        bool (n,); of equal points all are on the front, or none.
    """
    cost, accuracy = np.asarray(costs), np.asarray(accuracies)
    as_good = (cost <= cost[:, None]) & (accuracy >= accuracy[:, None])  # (n, other)
    better = (cost < cost[:, None]) | (accuracy > accuracy[:, None])
    return np.asarray(~(as_good & better).any(axis=1))


def draw_trade_off(comparison: Comparison) -> Figure:
    """Draw test accuracy with its interval against each cost.

    An arrow leads from each baseline to its candidate. Ensembles are hollow; they cost what their
    members cost together. The step line is the best accuracy to be had for a cost.
    """
    with style():
        points = list(_points(comparison))
        figure = Figure(figsize=(11, 8.4), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True)
        for axes, cost in zip(panels.flat, _costs(points), strict=True):
            _draw_points(axes, points, cost)
            _draw_arrows(axes, comparison, cost)
            _scale_costs(axes, [cost.of(point.summary) for point in points])
            axes.set_xlabel(cost.label)
            _draw_front(axes, points, cost)
            axes.grid(alpha=0.25)
        for axes in panels[:, 0]:
            axes.set_ylabel("test accuracy (%)")
        interval = f"{100 * comparison.judgement.confidence:g} % interval"
        figure.suptitle(f"Test accuracy (mean, {interval}) against costs: up and left is better")
        draw_legend(figure, _handles(comparison))
    return figure


def _points(comparison: Comparison) -> Iterator[Point]:
    names = list(comparison.entries)
    palette, shapes = colours(names), markers(names)
    for model, entry in comparison.entries.items():
        yield Point(entry.summary, palette[model], shapes[model], filled_with=palette[model])
    for ensemble in comparison.ensembles:
        colour, marker = "dimgrey", "D"
        if ensemble.model:
            colour, marker = palette[ensemble.model], shapes[ensemble.model]
        yield Point(ensemble.summary, colour, marker, filled_with="white")


def _costs(points: Sequence[Point]) -> list[Cost]:
    """Return what is drawn, the training in the unit that suits the longest."""
    longest = max(point.summary.training_seconds for point in points)
    unit, seconds = next((time for time in TIMES if longest >= 2 * time[1]), TIMES[-1])
    return [
        Cost("parameters", lambda summary: float(summary.parameters)),
        Cost("multiply-accumulates for one image", lambda summary: float(summary.macs)),
        Cost("latency of one image (ms)", lambda summary: summary.latency_ms),
        Cost(f"training of one run ({unit})", lambda summary: summary.training_seconds / seconds),
    ]


def _draw_points(axes: Axes, points: Sequence[Point], cost: Cost) -> None:
    for point in points:
        value, estimate = cost.of(point.summary), point.summary.accuracy
        axes.vlines(value, estimate.low, estimate.high, color=point.colour, linewidth=1.6)
        axes.plot(
            value, estimate.mean, point.marker, color=point.colour, markersize=7,
            markerfacecolor=point.filled_with, markeredgewidth=1.8, zorder=3,
        )  # fmt: skip


def _draw_arrows(axes: Axes, comparison: Comparison, cost: Cost) -> None:
    entries = comparison.entries
    for pair in (entry.pair for entry in entries.values() if entry.pair):
        start, end = (entries[name].summary for name in (pair.baseline, pair.model))
        axes.annotate(
            "",
            (cost.of(end), end.accuracy.mean),
            (cost.of(start), start.accuracy.mean),
            arrowprops={
                "arrowstyle": "-|>", "color": "black", "linewidth": 1, "shrinkA": 4, "shrinkB": 4,
            },
            zorder=4,
        )  # fmt: skip


def _scale_costs(axes: Axes, costs: Sequence[float]) -> None:
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
    if highest >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter())
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _draw_front(axes: Axes, points: Sequence[Point], cost: Cost) -> None:
    costs = [cost.of(point.summary) for point in points]
    accuracies = [point.summary.accuracy.mean for point in points]
    chosen = pareto_front(costs, accuracies)
    front = sorted((at, best) for at, best, on in zip(costs, accuracies, chosen, strict=True) if on)
    best_costs, best_accuracies = zip(*front, strict=True)
    axes.step(
        [*best_costs, axes.get_xlim()[1]], [*best_accuracies, best_accuracies[-1]],
        where="post", color=FRONT_COLOUR, linewidth=1.4, zorder=1,
    )  # fmt: skip


def _handles(comparison: Comparison) -> list[Line2D]:
    names = list(comparison.entries)
    palette, shapes = colours(names), markers(names)
    networks = [
        Line2D(
            [], [], color=palette[name], marker=shapes[name], linestyle="",
            label=shortened(name, 24),
        )
        for name in names
    ]  # fmt: skip
    hollow = [
        Line2D([], [], color=colour, marker="D", markerfacecolor="white", linestyle="", label=label)
        for label, colour in _ensemble_kinds(comparison).items()
    ]
    arrow = Line2D(
        [], [], color="black", linewidth=1, marker=">", markevery=[1],
        label="from baseline to candidate",
    )  # fmt: skip
    paired = any(entry.pair for entry in comparison.entries.values())
    front = Line2D([], [], color=FRONT_COLOUR, label="Pareto front: the best for the cost")
    return [*networks, *hollow, *([arrow] if paired else []), front]


def _ensemble_kinds(comparison: Comparison) -> dict[str, str]:
    """Return how each kind of ensemble is named in the legend, and its colour there."""
    of_seeds = any(ensemble.model for ensemble in comparison.ensembles)
    of_all = any(ensemble.model is None for ensemble in comparison.ensembles)
    named = {"hollow: ensemble of its seeds": of_seeds, "ensemble of all architectures": of_all}
    colour = dict(zip(named, ("black", "dimgrey"), strict=True))
    return {label: colour[label] for label, there in named.items() if there}
