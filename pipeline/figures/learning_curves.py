"""Loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.figures.style import (
    colours,
    draw_legend,
    line_style,
    markers,
    shortened,
    style,
)


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
