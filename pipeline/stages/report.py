"""Write the report: what was compared, what came of it, and where it all comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.comparison.compare import Comparison, Judgement, compare
from pipeline.comparison.design import CROSS_VALIDATED, REPEATED
from pipeline.comparison.runs import Explanation, Run, read_explanations, read_runs
from pipeline.data import arrays
from pipeline.evaluation.calibration import Reliability
from pipeline.figures.accuracy import draw_accuracies
from pipeline.figures.class_differences import draw_class_differences
from pipeline.figures.confusion import draw_confusion_matrices
from pipeline.figures.galleries import draw_disagreements, draw_mistakes
from pipeline.figures.heatmap_scores import draw_faithfulness
from pipeline.figures.learning_curves import draw_learning_curves
from pipeline.figures.reliability import draw_reliability
from pipeline.figures.samples import draw_samples
from pipeline.figures.style import save
from pipeline.figures.trade_off import draw_trade_off
from pipeline.report import page, tables
from pipeline.report.render import Figures, Provenance, render
from pipeline.settings.schema import Settings
from pipeline.stages import stale_outputs
from pipeline.storage.atomic import atomic_folder, write_json, write_text
from pipeline.storage.csv_files import as_csv, write_table
from pipeline.system import provenance
from pipeline.system.machine import cores, cpu_name
from pipeline.system.progress import say

FIGURES = "figures/comparison"  # in the report's folder


def run(
    settings: Settings,
    splits: Path,
    trained: Path,
    evaluated: Path,
    measured: Path,
    figures: Path,
    out: Path,
    params_path: Path,
) -> None:
    """Write the report: all in ``reports/`` but the figures that explain single architectures.

    These are ``report.md``, ``report.html``, ``comparison.csv``, ``metrics.json``,
    ``figures/comparison/``, ``tables/`` and ``plots/``.

    Args:
        settings: all of params.yaml.
        splits: the folder that the split stage wrote.
        trained: the folder with ``<model>/<seed>/`` of the training stage.
        evaluated: the folder with ``<model>/<seed>/`` of the evaluation stage.
        measured: the folder that the measure stage wrote.
        figures: the folder with ``<model>/`` of the explain stage.
        out: the folder to write these into; what else it holds stays.
        params_path: the settings file, which the report quotes.

    Raises:
        InputError: if a stage's output is missing, torn, or not of these splits.
    """
    dataset = arrays.read(splits, settings)
    runs = read_runs(
        trained,
        evaluated,
        measured,
        settings.architectures,
        _test_labels(dataset, settings.seeds),
        dataset.fingerprint,
    )
    architectures = {
        name: architecture.model_dump() for name, architecture in settings.architectures.items()
    }
    baselines = {name: architecture["baseline"] for name, architecture in architectures.items()}
    judged = settings.report
    compared = compare(
        runs,
        architectures,
        dataset.classes,
        REPEATED if dataset.folds is None else CROSS_VALIDATED,
        Judgement(judged.confidence, judged.resamples, judged.margin, judged.seed),
        judged.ensembles,
    )
    candidate = settings.model
    first = dataset.for_run(settings.seeds[0])
    explanations = read_explanations(figures, settings.architectures, len(first.rows("test")))

    drawn = _figures(candidate, compared, baselines, explanations, first, settings)
    with atomic_folder(out / FIGURES, "accuracy.png") as folder:
        for name, figure in drawn.items():
            save(figure, folder / f"{name}.png")
    with atomic_folder(out / "tables", "runs.csv") as folder:
        for name, table in _tables(compared).items():
            write_table(table, folder / f"{name}.csv")
    with atomic_folder(out / "plots", "confusion.csv") as folder:
        # A control is drawn beside itself: DVC's plot needs both columns.
        control = baselines[candidate] or candidate
        for name, table in _plots(candidate, control, compared).items():
            write_table(table, folder / f"{name}.csv")
    write_text(out / "comparison.csv", as_csv(tables.comparison_table(compared)))
    metrics = tables.headline_metrics(compared.entries[candidate])
    write_json(out / "metrics.json", metrics)
    sources = Provenance(
        commit=provenance.commit(params_path.resolve().parent),
        versions=provenance.versions(),
        processor=cpu_name(),
        cores=cores(),
        params=params_path.read_text(encoding="utf-8"),
    )
    report = render(
        candidate,
        compared,
        judged.ensembles,
        explanations,
        dataset,
        _links(drawn, explanations, out),
        sources,
    )
    html = page.page(report.text, out, report.badge, report.cards)
    write_text(out / "report.md", report.text)
    write_text(out / "report.html", html)
    left_over = stale_outputs.find(settings, trained, evaluated, figures)
    if left_over:
        say(
            f"{', '.join(map(str, left_over))}: of no run in {params_path.name}; before you share "
            "results, remove what is left over: python -m pipeline prune"
        )
    say(f"wrote {out / 'report.md'} and {out / 'report.html'}")


def _test_labels(dataset: arrays.Dataset, seeds: Sequence[int]) -> dict[int, np.ndarray]:
    """Return for each seed the labels int64 (N,) of what its runs are tested on."""
    of_runs = {seed: dataset.for_run(seed) for seed in seeds}
    return {seed: of_run.labels[of_run.rows("test")] for seed, of_run in of_runs.items()}


def _figures(
    candidate: str,
    compared: Comparison,
    baselines: Mapping[str, str | None],
    explanations: Mapping[str, Explanation],
    dataset: arrays.Dataset,
    settings: Settings,
) -> dict[str, Figure]:
    """Draw the report's own figures, by name; those that there is nothing for are left out.

    Args:
        candidate: the architecture the report is about.
        compared: what was compared.
        baselines: of each architecture.
        explanations: of those that were explained.
        dataset: as the first run sees it.
        settings: all of params.yaml.
    """
    runs, design, classes = compared.runs, compared.design, dataset.classes
    drawn = {
        "accuracy": draw_accuracies(compared),
        "trade_off": draw_trade_off(compared),
        "class_differences": draw_class_differences(compared),
        "confusion_matrices": draw_confusion_matrices(runs, classes, design),
        "reliability": draw_reliability(compared),
        "learning_curves": draw_learning_curves(runs, baselines, design, settings.train.loss),
        "samples": draw_samples(
            dataset.images, dataset.labels, dataset.rows("train"), classes, settings.report.seed
        ),
        **_galleries(candidate, baselines[candidate], runs, explanations, dataset),
    }
    if explanations:
        tested = {model: found.faithfulness for model, found in explanations.items()}
        drawn["faithfulness"] = draw_faithfulness(tested)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _galleries(
    candidate: str,
    baseline: str | None,
    runs: Mapping[str, Sequence[Run]],
    explanations: Mapping[str, Explanation],
    dataset: arrays.Dataset,
) -> dict[str, Figure | None]:
    """Draw test images of the first run that say something."""
    maps = {model: found.grad_cam for model, found in explanations.items()}
    images, rows = dataset.images, dataset.rows("test")
    drawn = {
        "mistakes": draw_mistakes(
            runs[candidate][0], images, rows, dataset.classes, maps.get(candidate)
        )
    }
    if baseline is not None:
        drawn["disagreements"] = draw_disagreements(
            runs[candidate][0],
            runs[baseline][0],
            images,
            rows,
            dataset.classes,
            maps.get(candidate),
            maps.get(baseline),
        )
    return drawn


def _tables(compared: Comparison) -> dict[str, pd.DataFrame]:
    """Return what stands in ``tables/``, by name."""
    return {
        "runs": tables.runs_table(compared.runs),
        "per_class": tables.per_class_table(compared.runs, compared.classes, compared.design),
        "pairs": tables.pairs_table(compared),
        "class_differences": tables.class_differences_table(compared),
        "calibration": tables.calibration_table(compared),
        "timings": tables.timings_table(compared.runs),
    }


def _plots(candidate: str, control: str, compared: Comparison) -> dict[str, pd.DataFrame]:
    """Return what DVC's plots are drawn of, by name."""
    runs = compared.runs
    scores = compared.design.class_scores(runs[candidate], compared.classes)
    missed = {name: 100 * (1 - of_class["recall"]) for name, of_class in scores.items()}
    return {
        "learning_curves": tables.learning_curves_table(runs[candidate], runs[control]),
        "confusion": tables.predictions_table(runs[candidate], compared.classes),
        "mistakes": pd.DataFrame({"class": missed.keys(), "missed": missed.values()}),
        "reliability": _reliability_plot(compared.entries[candidate].summary.reliability),
    }


def _reliability_plot(reliability: Reliability) -> pd.DataFrame:
    """Return confidence, accuracy and perfect, all in [0, 1]: a row for each bin that is used."""
    used = reliability.counts > 0  # DVC would draw a missing value as 0
    return pd.DataFrame(
        {
            "confidence": reliability.confidence[used],
            "accuracy": reliability.accuracy[used],
            "perfect": reliability.confidence[used],
        }
    )


def _links(
    drawn: Mapping[str, Figure], explanations: Mapping[str, Explanation], out: Path
) -> Figures:
    """Return the links to the figures from the report in `out`."""
    link = {name: f"{FIGURES}/{name}.png" for name in drawn}
    return Figures(
        accuracy=link["accuracy"],
        trade_off=link["trade_off"],
        class_differences=link.get("class_differences"),
        disagreements=link.get("disagreements"),
        mistakes=link.get("mistakes"),
        confusion_matrices=link["confusion_matrices"],
        faithfulness=link.get("faithfulness"),
        reliability=link["reliability"],
        learning_curves=link["learning_curves"],
        samples=link["samples"],
        architectures={
            model: Path(os.path.relpath(found.folder, out)).as_posix()
            for model, found in explanations.items()
        },
    )
