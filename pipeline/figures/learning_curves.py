"""Loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.figures.style import colours, draw_legend, markers, shortened, style

MEASURES = {"loss": 1.0, "accuracy": 100.0}  # by the factor that gives the unit
SPLITS = {"train": "training", "validation": "validation"}  # and their names


def draw_learning_curves(
    runs: Mapping[str, Sequence[Run]],
    baselines: Mapping[str, Sequence[str]],
    design: Design,
    loss: str,
) -> Figure:
    """Draw loss and accuracy by epoch, of training and validation.

    One line for each architecture, the mean over runs (dashed for those without a baseline), in a
    band from the lowest to the highest run; a mark on the validation curves for each run's best
    epoch. Where a run ended early, thin lines show the others one by one. `loss`, of the settings,
    is what was minimised. The validation loss is cross entropy whatever it is.
    """
    with style():
        palette, shapes = colours(list(runs)), markers(list(runs))
        lines = {model: "-" if baselines[model] else "--" for model in runs}
        figure = Figure(figsize=(11, 7.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        shared = {1: "accuracy (%)"}  # the rows of one scale, with its unit
        if loss == "cross_entropy":
            shared[0] = "loss (nats)"
        else:
            panels[0, 0].set_ylabel(f"{loss.rpartition('.')[2]} loss")
            panels[0, 1].set_ylabel("cross entropy (nats)")
        for row, unit in shared.items():
            panels[row, 1].sharey(panels[row, 0])
            panels[row, 1].tick_params(labelleft=False)
            panels[row, 0].set_ylabel(unit)

        for (row, measure), (column, split) in product(enumerate(MEASURES), enumerate(SPLITS)):
            axes = panels[row, column]
            for model, model_runs in runs.items():
                name = f"{split}_{measure}"
                histories = [run.history.set_index("epoch")[name] for run in model_runs]
                by_epoch = MEASURES[measure] * pd.concat(histories, axis=1)  # (epochs, R)
                _draw_curves(axes, by_epoch, lines[model], palette[model])
                for run, (_, curve) in zip(model_runs, by_epoch.items(), strict=True):
                    best = run.training.best_epoch
                    if split == "validation":
                        axes.plot(
                            best, curve.loc[best], shapes[model], color=palette[model],
                            markersize=7, markeredgecolor="white",
                        )  # fmt: skip
            axes.set_title(f"{SPLITS[split]} {measure}")
            axes.grid(alpha=0.25)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[1]:
            axes.set_xlabel("epoch")
        # One wild epoch must not squeeze all other losses into a line.
        history = pd.concat([run.history for model_runs in runs.values() for run in model_runs])
        columns = [f"{split}_loss" for split in SPLITS]
        for axes, name in zip(panels[0], columns, strict=True):
            values = history[columns if 0 in shared else [name]].to_numpy().ravel()
            values = values[np.isfinite(values)]
            usual = 1.5 * np.percentile(values, 97)
            if 0 < usual < values.max():
                axes.set_ylim(min(0, values.min()), usual)
        draw_legend(
            figure,
            [
                *(
                    {
                        "label": shortened(model, 30), "color": palette[model],
                        "linestyle": lines[model], "marker": shapes[model],
                        "markeredgecolor": "white",
                    }
                    for model in runs
                ),
                {
                    "label": f"best epoch of a {design.unit}", "color": "grey", "marker": "D",
                    "linestyle": "", "markeredgecolor": "white",
                },
            ],
        )  # fmt: skip
    return figure


def _draw_curves(axes: Axes, by_epoch: pd.DataFrame, line: str, colour: str) -> None:
    """Draw mean and range as far as all runs went, then each run that trained for longer.

    `by_epoch` is (epochs, R), NaN after the end of a run.
    """
    shared = by_epoch.dropna()
    axes.fill_between(
        shared.index, shared.min(axis=1), shared.max(axis=1), color=colour, alpha=0.15, linewidth=0
    )
    axes.plot(shared.index, shared.mean(axis=1), line, color=colour)
    for _, run in by_epoch.loc[shared.index[-1] :].items():
        axes.plot(run.index, run, line, color=colour, linewidth=0.8, alpha=0.6)
