"""Write the report: what was compared, what came of it, and where it all comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import leftovers
from pipeline.data import arrays
from pipeline.files import whole
from pipeline.machine import cores, cpu_name
from pipeline.params import Settings
from pipeline.progress import say
from pipeline.reporting import figures as drawing
from pipeline.reporting import provenance, tables
from pipeline.reporting.comparison import Comparison, Judgement, compare
from pipeline.reporting.design import CROSS_VALIDATED, REPEATED
from pipeline.reporting.render import Links, Provenance, render
from pipeline.reporting.results import read_runs
from pipeline.reporting.style import save
from pipeline.stages.splits import wanted


def run(
    settings: Settings,
    splits: Path,
    trained: Path,
    evaluated: Path,
    figures: Path,
    out: Path,
    params_path: Path,
) -> None:
    """Write ``report.md``, ``metrics.json``, ``figures/comparison/``, ``tables/`` and ``plots/``.

    Args:
        settings: all of params.yaml.
        splits: the folder that the split stage wrote.
        trained: the folder with ``<model>/<seed>/`` of the training stage.
        evaluated: the folder with ``<model>/<seed>/`` of the evaluation stage.
        figures: the folder with ``<model>/`` of the explain stage.
        out: the folder to write these into; what else it holds stays.
        params_path: the settings file, which the report quotes.

    Raises:
        InputError: if a stage's output is missing, torn, or not of these splits.
    """
    dataset = arrays.read(splits, wanted(settings))
    runs = read_runs(
        trained,
        evaluated,
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
        REPEATED if dataset.folds is None else CROSS_VALIDATED,
        Judgement(judged.confidence, judged.resamples, judged.margin, judged.seed),
        judged.ensembles,
    )
    candidate = settings.model

    links = _links(figures, out, settings.architectures)
    with whole(out / "figures" / "comparison", "accuracy.png") as folder:
        _draw(compared, baselines, dataset, settings, folder)
    with whole(out / "tables", "comparison.csv") as folder:
        _write_csv(tables.comparison_table(compared), folder / "comparison.csv")
        per_class = tables.per_class_table(runs, dataset.classes, compared.design)
        _write_csv(per_class, folder / "per_class.csv")
        _write_csv(tables.runs_table(runs), folder / "runs.csv")
    with whole(out / "plots", "confusion.csv") as folder:
        # A control is drawn beside itself: DVC's plot needs both columns.
        control = baselines[candidate] or candidate
        curves = tables.learning_curves_table(runs[candidate], runs[control])
        _write_csv(curves, folder / "learning_curves.csv")
        predictions = tables.predictions_table(runs[candidate], dataset.classes)
        _write_csv(predictions, folder / "confusion.csv")
    metrics = tables.headline_metrics(compared.entries[candidate])
    _write_text(json.dumps(metrics, indent=2) + "\n", out / "metrics.json")
    sources = Provenance(
        commit=provenance.commit(params_path.resolve().parent),
        versions=provenance.versions(),
        processor=cpu_name(),
        cores=cores(),
        params=params_path.read_text(encoding="utf-8"),
    )
    text = render(candidate, compared, judged.ensembles, dataset, links, sources)
    _write_text(text, out / "report.md")
    left_over = leftovers.find(settings, trained, evaluated, figures)
    if left_over:
        say(
            f"{', '.join(map(str, left_over))}: of no run in {params_path.name}; before you share "
            "results, remove what is left over: python -m pipeline prune"
        )
    say(f"wrote {out / 'report.md'}")


def _test_labels(dataset: arrays.Dataset, seeds: Sequence[int]) -> dict[int, np.ndarray]:
    """Return for each seed the labels int64 (N,) of what its runs are tested on."""
    of_runs = {seed: dataset.for_run(seed) for seed in seeds}
    return {seed: of_run.labels[of_run.rows("test")] for seed, of_run in of_runs.items()}


def _draw(
    compared: Comparison,
    baselines: Mapping[str, str | None],
    dataset: arrays.Dataset,
    settings: Settings,
    folder: Path,
) -> None:
    """Draw the report's own figures into `folder`."""
    runs, design = compared.runs, compared.design
    training = dataset.for_run(settings.seeds[0]).rows("train")
    drawn = {
        "accuracy.png": drawing.draw_accuracies(compared),
        "learning_curves.png": drawing.draw_learning_curves(
            runs, baselines, design, settings.train.loss
        ),
        "confusion_matrices.png": drawing.draw_confusion_matrices(runs, dataset.classes, design),
        "samples.png": drawing.draw_samples(
            dataset.images, dataset.labels, training, dataset.classes, settings.report.seed
        ),
    }
    for name, figure in drawn.items():
        save(figure, folder / name)


def _links(figures: Path, out: Path, models: Iterable[str]) -> Links:
    """Return the links to what was drawn; of the explanations, those that exist."""

    def found(name: str) -> dict[str, str]:
        paths = {model: figures / model / name for model in models}
        return {
            model: Path(os.path.relpath(path, out)).as_posix()
            for model, path in paths.items()
            if path.is_file()
        }

    tables = found("attention.csv")
    return Links(
        accuracies="figures/comparison/accuracy.png",
        learning_curves="figures/comparison/learning_curves.png",
        confusion_matrices="figures/comparison/confusion_matrices.png",
        samples="figures/comparison/samples.png",
        feature_maps=found("feature_maps.png"),
        heatmaps=found("heatmaps.png"),
        attention={
            model: (figure, tables[model])
            for model, figure in found("attention.png").items()
            if model in tables
        },
    )


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def _write_text(text: str, path: Path) -> None:
    """Write `path` at once: a reader finds the old text or the new, never half of one."""
    staging = path.with_name(f".incomplete-{path.name}")
    staging.write_text(text, encoding="utf-8")
    staging.replace(path)
