"""The report's own figures: accuracies, learning curves, confusion matrices, sample images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.comparison import Entry, confusion_counts
from pipeline.reporting.results import Run
from pipeline.reporting.style import colours, line_style, shortened, show_image, style

MOST_ANNOTATED_CLASSES = 12
MOST_NAMED_CLASSES = 20
SAMPLE_ROWS = 10
SAMPLE_COLUMNS = 10


def draw_accuracies(entries: Mapping[str, Entry], confidence: float, margin: float) -> Figure:
    """Draw the accuracy of every seed, its mean with interval, and each difference to a baseline.

    Args:
        entries: by architecture.
        confidence: of the intervals.
        margin: the smallest improvement that would matter, in percentage points.
    """
    with style():
        palette = colours(list(entries))
        pairs = [entry.pair for entry in entries.values() if entry.pair]
        panels_across = 2 if pairs else 1
        figure = Figure(
            figsize=(5.5 * panels_across, 1.5 + 0.6 * len(entries)), layout="constrained"
        )
        panels = figure.subplots(1, panels_across, squeeze=False, width_ratios=[1] * panels_across)
        axes = panels[0, 0]
        for position, entry in enumerate(entries.values()):
            colour = palette[entry.model]
            estimate = entry.accuracy
            axes.hlines(position, estimate.low, estimate.high, color=colour, linewidth=2.5)
            axes.plot(
                entry.accuracies, [position + 0.22] * len(entry.accuracies), "o", color=colour,
                markersize=5, alpha=0.55, markeredgewidth=0,
            )  # fmt: skip
            axes.plot(estimate.mean, position, "D", color=colour, markersize=7)
        axes.set_yticks(range(len(entries)), list(entries))
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.set_xlabel("test accuracy (%)")
        axes.set_title(f"Mean, {_percent(confidence)} interval; dots: seeds", fontsize=11)
        axes.grid(axis="x", alpha=0.25)

        if pairs:
            axes = panels[0, 1]
            for position, pair in enumerate(pairs):
                colour = palette[pair.model]
                difference = pair.difference
                axes.hlines(position, difference.low, difference.high, color=colour, linewidth=2.5)
                axes.plot(difference.mean, position, "D", color=colour, markersize=7)
            axes.axvline(0, color="black", linewidth=1)
            if margin > 0:
                axes.axvline(margin, color="black", linewidth=1, linestyle=":")
                axes.annotate(
                    f"margin {margin:g}", (margin, 1), xycoords=("data", "axes fraction"),
                    xytext=(4, -2), textcoords="offset points", va="top", fontsize=10,
                )  # fmt: skip
            names = [f"{pair.model}\nminus {pair.baseline}" for pair in pairs]
            axes.set_yticks(range(len(pairs)), names)
            axes.set_ylim(len(pairs) - 0.4, -0.6)
            axes.set_xlabel("difference (percentage points)")
            axes.set_title(
                f"Difference to the baseline, {_percent(confidence)} interval", fontsize=11
            )
            axes.grid(axis="x", alpha=0.25)
    return figure


def draw_learning_curves(
    runs: Mapping[str, Sequence[Run]], baselines: Mapping[str, str | None]
) -> Figure:
    """Draw loss and accuracy by epoch, of training and validation.

    One line for each architecture, the mean over seeds (dashed for those without a baseline), in a
    band from the lowest to the highest seed; a dot on the validation curves for each seed's best
    epoch.

    Args:
        runs: by architecture.
        baselines: the baseline of each architecture, if it has one.
    """
    with style():
        palette = colours(list(runs))
        figure = Figure(figsize=(11, 7.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey="row")
        for row, (measure, unit, factor) in enumerate(
            [("loss", "loss (nats)", 1.0), ("accuracy", "accuracy (%)", 100.0)]
        ):
            for column, split in enumerate(["train", "validation"]):
                axes = panels[row, column]
                name = f"{split}_{measure}"
                for model, of_model in runs.items():
                    by_epoch = factor * _by_epoch(of_model, name)  # (epochs, S)
                    axes.fill_between(
                        by_epoch.index, by_epoch.min(axis=1), by_epoch.max(axis=1),
                        color=palette[model], alpha=0.15, linewidth=0,
                    )  # fmt: skip
                    axes.plot(
                        by_epoch.index, by_epoch.mean(axis=1),
                        line_style(baselines, model), color=palette[model],
                    )  # fmt: skip
                    if split == "validation":
                        _mark_best_epochs(axes, of_model, by_epoch, palette[model])
                axes.set_title(f"{'training' if split == 'train' else split} {measure}")
                axes.grid(alpha=0.25)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                if row == 1:
                    axes.set_xlabel("epoch")
                if column == 0:
                    axes.set_ylabel(unit)
        _limit_loss(panels[0], runs)
        handles: list[Line2D] = [
            Line2D([], [], color=palette[model], linestyle=line_style(baselines, model))
            for model in runs
        ]
        handles.append(
            Line2D([], [], color="grey", marker="o", linestyle="", markeredgecolor="white")
        )
        figure.legend(handles, [*runs, "best epoch of a seed"], loc="outside lower center", ncols=5)
    return figure


def draw_confusion_matrices(runs: Mapping[str, Sequence[Run]], classes: Sequence[str]) -> Figure:
    """Draw each architecture's confusion matrix: counts over all seeds, shaded by row share.

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
            axes.set_title(f"{model} ({_seeds(len(of_model))})")
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


def draw_samples(
    images: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    classes: Sequence[str],
    seed: int,
) -> Figure:
    """Draw a few images of each class, at most ten classes, one row each.

    Args:
        images: uint8 (N, H, W, C), possibly memory-mapped.
        labels: int64 (N,).
        rows: row numbers of the images to choose from.
        classes: the K names.
        seed: of the choice of images.
    """
    generator = np.random.default_rng(seed)
    spread = np.linspace(0, len(classes) - 1, min(len(classes), SAMPLE_ROWS)).round().astype(int)
    with style():
        figure = Figure(
            figsize=(0.85 * SAMPLE_COLUMNS + 1.4, 0.87 * len(spread) + 0.1), layout="constrained"
        )
        panels = figure.subplots(len(spread), SAMPLE_COLUMNS, squeeze=False)
        for row, label in enumerate(spread):
            members = rows[labels[rows] == label]
            chosen = generator.permutation(members)[:SAMPLE_COLUMNS]
            for column, axes in enumerate(panels[row]):
                if column < len(chosen):
                    show_image(axes, np.asarray(images[chosen[column]]))
                else:
                    axes.set_axis_off()
            panels[row, 0].set_axis_on()
            panels[row, 0].set_ylabel(
                shortened(classes[label]), rotation=0, ha="right", va="center", labelpad=8
            )
    return figure


def _by_epoch(runs: Sequence[Run], column: str) -> pd.DataFrame:
    """Return one column of the histories, (epochs, S)."""
    return pd.concat([run.history.set_index("epoch")[column] for run in runs], axis=1)


def _mark_best_epochs(axes: Axes, runs: Sequence[Run], by_epoch: pd.DataFrame, colour: str) -> None:
    for position, run in enumerate(runs):
        best = run.training["best_epoch"]
        value = by_epoch.iloc[:, position].loc[best]
        axes.plot(best, value, "o", color=colour, markersize=7, markeredgecolor="white")


def _limit_loss(panels: np.ndarray, runs: Mapping[str, Sequence[Run]]) -> None:
    """Keep one wild epoch from squeezing all other losses into a line."""
    losses = np.concatenate(
        [
            run.history[["train_loss", "validation_loss"]].to_numpy().ravel()
            for of_model in runs.values()
            for run in of_model
        ]
    )
    losses = losses[np.isfinite(losses)]
    usual = 1.5 * np.percentile(losses, 97)
    if losses.max() > usual:
        panels[0].set_ylim(0, usual)


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


def _percent(confidence: float) -> str:
    return f"{100 * confidence:g} %"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
