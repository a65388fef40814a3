"""The report's own figures: accuracies, learning curves, confusion matrices, sample images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.reporting import doubts, wording
from pipeline.reporting.comparison import Comparison, Pair
from pipeline.reporting.design import Design
from pipeline.reporting.results import Run
from pipeline.reporting.style import (
    colours,
    draw_legend,
    line_style,
    markers,
    shortened,
    show_image,
    style,
)
from pipeline.reporting.summary import Summary, confusion_counts

MOST_ANNOTATED_CLASSES = 12
MOST_NAMED_CLASSES = 20
SAMPLE_ROWS = 10
SAMPLE_COLUMNS = 10
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
        named = [wording.ensemble(ensemble).replace("`", "") for ensemble in ensembles]
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


def draw_learning_curves(
    runs: Mapping[str, Sequence[Run]],
    baselines: Mapping[str, str | None],
    design: Design,
    loss: str,
) -> Figure:
    """Draw loss and accuracy by epoch, of training and validation.

    One line for each architecture, the mean over runs (dashed for those without a baseline), in a
    band from the lowest to the highest run; a mark on the validation curves for each run's best
    epoch. Where a run ended early, thin lines show the others one by one.

    Args:
        runs: by architecture.
        baselines: the baseline of each architecture, if it has one.
        design: how the runs belong together.
        loss: what was minimised: `train.loss`. The validation loss is cross entropy whatever it is.
    """
    with style():
        palette, shapes = colours(list(runs)), markers(list(runs))
        figure = Figure(figsize=(11, 7.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        _share_scale(panels[1, 0], panels[1, 1], "accuracy (%)")
        _scale_losses(panels[0, 0], panels[0, 1], loss)
        for row, (measure, factor) in enumerate([("loss", 1.0), ("accuracy", 100.0)]):
            for column, split in enumerate(["train", "validation"]):
                axes = panels[row, column]
                for model, of_model in runs.items():
                    by_epoch = factor * _by_epoch(of_model, f"{split}_{measure}")  # (epochs, R)
                    _draw_curves(axes, by_epoch, line_style(baselines, model), palette[model])
                    if split == "validation":
                        _mark_best_epochs(axes, of_model, by_epoch, palette[model], shapes[model])
                axes.set_title(f"{'training' if split == 'train' else split} {measure}")
                axes.grid(alpha=0.25)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[1]:
            axes.set_xlabel("epoch")
        _limit_losses(panels[0, 0], panels[0, 1], runs)
        networks = [
            Line2D(
                [], [], color=palette[model], linestyle=line_style(baselines, model),
                marker=shapes[model], markeredgecolor="white", label=shortened(model, 30),
            )
            for model in runs
        ]  # fmt: skip
        best = Line2D(
            [], [], color="grey", marker="D", linestyle="", markeredgecolor="white",
            label=f"best epoch of a {design.unit}",
        )  # fmt: skip
        draw_legend(figure, [*networks, best])
    return figure


def draw_confusion_matrices(
    runs: Mapping[str, Sequence[Run]], classes: Sequence[str], design: Design
) -> Figure:
    """Draw each architecture's confusion matrix: counts over all runs, shaded by row share.

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
            axes.set_title(f"{shortened(model, 30)} ({design.described(len(of_model))})")
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


def _draw_curves(axes: Axes, by_epoch: pd.DataFrame, line: str, colour: str) -> None:
    """Draw mean and range as far as all runs went, then each run that went on by itself."""
    shared = by_epoch.dropna()
    axes.fill_between(
        shared.index, shared.min(axis=1), shared.max(axis=1), color=colour, alpha=0.15, linewidth=0
    )
    axes.plot(shared.index, shared.mean(axis=1), line, color=colour)
    for _, run in by_epoch.loc[shared.index[-1] :].items():
        axes.plot(run.index, run, line, color=colour, linewidth=0.8, alpha=0.6)


def _by_epoch(runs: Sequence[Run], column: str) -> pd.DataFrame:
    """Return one column of the histories, (epochs, R): NaN after the end of a run."""
    return pd.concat([run.history.set_index("epoch")[column] for run in runs], axis=1)


def _mark_best_epochs(
    axes: Axes, runs: Sequence[Run], by_epoch: pd.DataFrame, colour: str, shape: str
) -> None:
    for position, run in enumerate(runs):
        best = run.training["best_epoch"]
        value = by_epoch.iloc[:, position].loc[best]
        axes.plot(best, value, shape, color=colour, markersize=7, markeredgecolor="white")


def _share_scale(left: Axes, right: Axes, unit: str) -> None:
    right.sharey(left)
    right.tick_params(labelleft=False)
    left.set_ylabel(unit)


def _scale_losses(training: Axes, validation: Axes, loss: str) -> None:
    """Give both panels one scale if both losses are the same."""
    if loss == "cross_entropy":
        _share_scale(training, validation, "loss (nats)")
    else:
        training.set_ylabel(f"{loss.rpartition('.')[2]} loss")
        validation.set_ylabel("cross entropy (nats)")


def _limit_losses(training: Axes, validation: Axes, runs: Mapping[str, Sequence[Run]]) -> None:
    """Keep one wild epoch from squeezing all other losses into a line."""
    losses = pd.concat([run.history for of_model in runs.values() for run in of_model])
    shared = training.get_shared_y_axes().joined(training, validation)
    columns = {"train_loss": training, "validation_loss": validation}
    for column, axes in columns.items():
        values = losses[list(columns) if shared else [column]].to_numpy().ravel()
        values = values[np.isfinite(values)]
        usual = 1.5 * np.percentile(values, 97)
        if 0 < usual < values.max():
            axes.set_ylim(min(0, values.min()), usual)


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
