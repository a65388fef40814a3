"""Write the report: what was compared, the results, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.comparison.compare import Comparison, compare
from pipeline.comparison.design import CROSS_VALIDATED, REPEATED
from pipeline.comparison.runs import Explanation, read_explanations, read_runs
from pipeline.data import arrays
from pipeline.engines.unchanged import made_from, outputs
from pipeline.figures.accuracy import draw_accuracies, draw_gains
from pipeline.figures.class_differences import draw_class_differences
from pipeline.figures.confusion import draw_confusion_matrices
from pipeline.figures.fonts import drawn_names, fonts_wanted
from pipeline.figures.galleries import draw_disagreements, draw_mistakes
from pipeline.figures.learning_curves import draw_learning_curves
from pipeline.figures.near_duplicates import draw_near_duplicates
from pipeline.figures.reliability import draw_reliability
from pipeline.figures.samples import draw_samples
from pipeline.figures.style import save
from pipeline.figures.trade_off import draw_trade_off
from pipeline.report import page, tables
from pipeline.report.filters import environment
from pipeline.report.latex import latex
from pipeline.report.view import Provenance, view
from pipeline.settings.recorded import check_recorded
from pipeline.settings.schema import Settings, named
from pipeline.stages import stale_outputs
from pipeline.statistics.criteria import Criteria
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder, write_json, write_text
from pipeline.storage.csv_files import as_csv, write_table
from pipeline.system import provenance
from pipeline.system.machine import cores, cpu_name
from pipeline.system.progress import say

PHOTOGRAPHS = ("samples", "mistakes", "disagreements", "near_duplicates")
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

    These are ``report.md``, ``report.html``, ``comparison.csv``, ``comparison.tex``,
    ``metrics.json``, ``verdict.json``, ``figures/comparison/``, ``tables/`` and ``plots/``; what
    else `out` holds stays. `trained` and `evaluated` hold ``<model>/<seed>/``, `figures` the
    explain stage's ``<model>/``. The report quotes the settings file.

    Raises:
        InputError: if a stage's output is missing, incomplete or corrupt, or is of other splits.
    """
    _check_origin(splits.parent / f"{splits.name}.json", settings)
    dataset = arrays.read(splits, settings)
    datasets = {seed: dataset.for_run(seed) for seed in settings.seeds}
    runs = read_runs(
        trained,
        evaluated,
        measured,
        settings,
        {seed: one.labels[one.rows("test")] for seed, one in datasets.items()},
        dataset.fingerprint,
    )
    judged = settings.report
    comparison = compare(
        runs,
        {name: one.model_dump() for name, one in settings.architectures.items()},
        dataset.classes,
        REPEATED if dataset.folds is None else CROSS_VALIDATED,
        Criteria(judged.confidence, judged.margin, judged.judged_by),
        judged.ensembles,
    )
    candidate = settings.model
    first = datasets[settings.seeds[0]]
    explanations = read_explanations(figures, trained, settings, len(first.rows("test")))

    drawn = _draw(settings, comparison, explanations, first)
    with atomic_folder(out / FIGURES, "accuracy.svg") as folder:
        for name, figure in drawn.items():
            save(figure, folder / _file(name))
    with atomic_folder(out / "tables", "runs.csv") as folder:
        for name, table in tables.report_tables(comparison).items():
            write_table(table, folder / f"{name}.csv")
    with atomic_folder(out / "plots", "confusion.csv") as folder:
        for name, table in tables.plots(comparison, candidate).items():
            write_table(table, folder / f"{name}.csv")
    table = tables.comparison_table(comparison)
    write_text(out / "comparison.csv", as_csv(table))
    write_text(out / "comparison.tex", latex(table))
    write_json(out / "metrics.json", tables.headline_metrics(comparison, candidate))
    each = [Path(run.model, str(run.seed)) for run in chain(*runs.values())]
    read = [measured / "timings.json"]
    read += [evaluated / run / "metrics.json" for run in each]
    read += [trained / run / name for run in each for name in ("train.json", "history.csv")]
    read += [explanation.folder / "explain.json" for explanation in explanations.values()]
    origin = made_from("report", settings, inputs=read).model_dump()
    found = view(
        candidate,
        comparison,
        judged.ensembles,
        explanations,
        {
            model: Path(os.path.relpath(explanation.folder, out)).as_posix()
            for model, explanation in explanations.items()
        },
        dataset,
        {name: f"{FIGURES}/{_file(name)}" for name in drawn},
        Provenance(
            commit=provenance.commit(params_path.resolve().parent),
            versions=provenance.versions(),
            processor=cpu_name(),
            cores=cores(),
            params=params_path.read_text(encoding="utf-8"),
        ),
        judged.note,
    )
    text = environment().get_template("report.md.j2").render(view=found)
    html = page.page(text, out, found)
    write_text(out / "report.md", text)
    write_text(out / "report.html", html)
    others = ("comparison.csv", "comparison.tex", "metrics.json", "report.md", "report.html")
    written = outputs(out, (*others, "tables", "plots", str(FIGURES)))
    verdicts = tables.verdicts(comparison) | {"made_from": origin, "outputs": written}
    write_json(out / "verdict.json", verdicts)
    if wanted := fonts_wanted(dataset.classes):
        say(
            "no installed font has the names of all classes: figures number them, and the report "
            f"says which is which; install {', '.join(wanted)}, then run: dvc repro -f -s explain "
            "report"
        )
    stale = stale_outputs.find(settings, trained, evaluated, figures)
    if stale:
        say(
            f"{', '.join(map(str, stale))}: of no run in {params_path.name}; remove them before "
            "you share results: python -m pipeline prune"
        )
    say(f"wrote {out / 'report.md'} and {out / 'report.html'}")


def _check_origin(path: Path, settings: Settings) -> None:
    """Refuse splits that were made under other settings: DVC leaves those of a frozen stage."""
    if not path.exists():  # made by hand
        return
    origin = records.read(path, records.Origin)
    check_recorded(path, origin.made_from.settings, settings, "run split again")


def _file(figure: str) -> str:
    return f"{figure}.{'png' if figure in PHOTOGRAPHS else 'svg'}"


def _draw(
    settings: Settings,
    comparison: Comparison,
    explanations: Mapping[str, Explanation],
    dataset: arrays.Dataset,
) -> dict[str, Figure]:
    """Draw the report's own figures, by name; without those that would show nothing.

    `dataset` is as the first run sees it.
    """
    runs, design, classes = comparison.runs, comparison.design, drawn_names(dataset.classes)
    images, rows = dataset.images, dataset.rows("test")
    baselines = {name: named(one.baseline) for name, one in settings.architectures.items()}
    candidate = settings.model
    cams = {model: explanation.grad_cam for model, explanation in explanations.items()}
    drawn = {
        "gains": draw_gains(comparison, candidate),
        "accuracy": draw_accuracies(comparison),
        "trade_off": draw_trade_off(comparison),
        "class_differences": draw_class_differences(comparison),
        "confusion_matrices": draw_confusion_matrices(runs, classes, design),
        "reliability": draw_reliability(comparison),
        "learning_curves": draw_learning_curves(runs, baselines, design, settings.train.loss),
        "samples": draw_samples(
            images, dataset.labels, dataset.rows("train"), classes, settings.report.seed
        ),
        "mistakes": draw_mistakes(runs[candidate][0], images, rows, classes, cams.get(candidate)),
    }
    for baseline in baselines[candidate][:1]:
        drawn["disagreements"] = draw_disagreements(
            runs[candidate][0],
            runs[baseline][0],
            images,
            rows,
            classes,
            cams.get(candidate),
            cams.get(baseline),
        )
    if dataset.near_pairs:
        drawn["near_duplicates"] = draw_near_duplicates(dataset)
    return {name: figure for name, figure in drawn.items() if figure is not None}
