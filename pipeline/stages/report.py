"""Write the report: what was compared, what came of it, and where it all comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipeline import leftovers
from pipeline.data import arrays
from pipeline.files import whole
from pipeline.machine import cores, cpu_name
from pipeline.params import Settings
from pipeline.progress import say
from pipeline.reporting import comparison, provenance
from pipeline.reporting import figures as drawing
from pipeline.reporting.render import Links, Provenance, render
from pipeline.reporting.results import read_runs
from pipeline.reporting.style import save


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
    dataset = arrays.read(splits, settings.data.name)
    labels = dataset.labels[dataset.rows("test")]
    runs = read_runs(
        trained, evaluated, settings.architectures, settings.seeds, labels, dataset.fingerprint
    )
    architectures = {
        name: architecture.model_dump() for name, architecture in settings.architectures.items()
    }
    baselines = {name: architecture["baseline"] for name, architecture in architectures.items()}
    judgement = comparison.Judgement(**settings.report.model_dump())
    entries = comparison.compare(runs, labels, architectures, judgement)
    candidate = settings.model

    links = _links(figures, out, settings.architectures)
    with whole(out / "figures" / "comparison", "accuracy.png") as folder:
        save(
            drawing.draw_accuracies(entries, judgement.confidence, judgement.margin),
            folder / "accuracy.png",
        )
        save(drawing.draw_learning_curves(runs, baselines), folder / "learning_curves.png")
        save(
            drawing.draw_confusion_matrices(runs, dataset.classes),
            folder / "confusion_matrices.png",
        )
        rows = dataset.rows("train")
        save(
            drawing.draw_samples(
                dataset.images, dataset.labels, rows, dataset.classes, judgement.seed
            ),
            folder / "samples.png",
        )
    with whole(out / "tables", "comparison.csv") as folder:
        _write_csv(comparison.comparison_table(entries), folder / "comparison.csv")
        _write_csv(comparison.per_class_table(runs, dataset.classes), folder / "per_class.csv")
        _write_csv(comparison.runs_table(runs), folder / "runs.csv")
    with whole(out / "plots", "confusion.csv") as folder:
        # A control is drawn beside itself: DVC's plot needs both columns.
        control = baselines[candidate] or candidate
        curves = comparison.learning_curves_table(runs[candidate], runs[control])
        _write_csv(curves, folder / "learning_curves.csv")
        predictions = comparison.predictions_table(runs[candidate], labels, dataset.classes)
        _write_csv(predictions, folder / "confusion.csv")
    metrics = comparison.headline_metrics(entries[candidate])
    _write_text(json.dumps(metrics, indent=2) + "\n", out / "metrics.json")
    sources = Provenance(
        commit=provenance.commit(params_path.resolve().parent),
        versions=provenance.versions(),
        processor=cpu_name(),
        cores=cores(),
        params=params_path.read_text(encoding="utf-8"),
    )
    text = render(candidate, runs, entries, architectures, judgement, dataset, links, sources)
    _write_text(text, out / "report.md")
    left_over = leftovers.find(settings, trained, evaluated, figures)
    if left_over:
        say(
            f"{', '.join(map(str, left_over))}: of no run in {params_path.name}; before you share "
            "results, remove what is left over: python -m pipeline prune"
        )
    say(f"wrote {out / 'report.md'}")


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
