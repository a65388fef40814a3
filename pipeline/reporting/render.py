"""The report as Markdown, from the comparison and what surrounds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.data.arrays import SPLITS, Dataset
from pipeline.reporting import markdown, wording
from pipeline.reporting.comparison import Entry, Judgement
from pipeline.reporting.provenance import Commit
from pipeline.reporting.results import Run

TEMPLATE = "template.md.j2"
MOST_OPEN_ROWS = 20
FEW_SEEDS = 5


@dataclass(frozen=True)
class Links:
    """Where the figures are, relative to the report; empty where there are none."""

    accuracies: str
    learning_curves: str
    confusion_matrices: str
    samples: str
    feature_maps: Mapping[str, str]
    heatmaps: Mapping[str, str]
    attention: Mapping[str, tuple[str, str]]  # figure and table


@dataclass(frozen=True)
class Provenance:
    """Where the results come from."""

    commit: Commit | None
    versions: Mapping[str, str]
    processor: str
    cores: int
    params: str


def render(
    candidate: str,
    runs: Mapping[str, Sequence[Run]],
    entries: Mapping[str, Entry],
    architectures: Mapping[str, Mapping[str, Any]],
    judgement: Judgement,
    dataset: Dataset,
    links: Links,
    provenance: Provenance,
) -> str:
    """Return the report.

    Args:
        candidate: the architecture it is about.
        runs: by architecture.
        entries: the comparison, by architecture.
        architectures: the settings of each.
        judgement: how pairs were judged.
        dataset: the images.
        links: of the figures.
        provenance: of the results.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    name = markdown.escape(dataset.name)
    first_seed = next(iter(runs.values()))[0].seed
    others = [
        model for model, entry in entries.items() if entry.pair is not None and model != candidate
    ]
    return environment.get_template(TEMPLATE).render(
        title=_title(candidate, name, architectures),
        answer=wording.answer(candidate, name, entries, architectures),
        other_answers=[wording.answer(model, name, entries, architectures) for model in others],
        comparison=_comparison(entries, candidate),
        confidence=f"{100 * judgement.confidence:g} %",
        timed_on=_distinct(run.timings["device_name"] for run in _all(runs)),
        accuracy_figure=markdown.image("Test accuracies and differences", links.accuracies),
        margin=f"{judgement.margin:g}",
        resamples=f"{judgement.resamples:,}",
        caveats=_caveats(entries, runs, dataset),
        learning_curves=markdown.image("Learning curves", links.learning_curves),
        per_class=_folded(_per_class(runs, dataset.classes), len(dataset.classes), "F1 by class"),
        confusion_matrices=markdown.image("Confusion matrices", links.confusion_matrices),
        first_seed=first_seed,
        feature_maps=[
            markdown.image(f"Feature maps of {model}", link)
            for model, link in links.feature_maps.items()
        ],
        heatmaps=[
            markdown.image(f"Heatmaps of {model}", link) for model, link in links.heatmaps.items()
        ],
        attention=[
            (markdown.image(f"Attention weights of {model}", figure), f"[{model}]({numbers})")
            for model, (figure, numbers) in links.attention.items()
        ],
        data_sentence=_data_sentence(dataset),
        counts=_folded(_counts(dataset), len(dataset.classes), "Images by class"),
        samples=markdown.image("Sample images", links.samples),
        provenance=_provenance(candidate, runs, provenance),
        commands=markdown.fenced(_commands(provenance.commit), "sh"),
        params=markdown.fenced(provenance.params, "yaml"),
    )


def _title(candidate: str, dataset: str, architectures: Mapping[str, Mapping[str, Any]]) -> str:
    baseline = architectures[candidate].get("baseline")
    against = f" against `{baseline}`" if baseline else ""
    return f"`{candidate}`{against} on {dataset}"


def _comparison(entries: Mapping[str, Entry], candidate: str) -> str:
    headings = [
        "architecture",
        "test accuracy",
        "difference to baseline",
        "verdict",
        "parameters",
        "MACs",
        "latency",
        "training",
    ]
    rows = []
    for entry in entries.values():
        name = f"`{entry.model}`"
        rows.append(
            [
                f"**{name}** (candidate)" if entry.model == candidate else name,
                wording.spread(entry.accuracy.mean, entry.accuracy_sd),
                _difference(entry),
                entry.pair.verdict if entry.pair else wording.ABSENT,
                f"{entry.parameters:,}",
                wording.large(entry.macs),
                f"{entry.latency_ms:.3g} ms",
                wording.duration(entry.training_seconds),
            ]
        )
    return markdown.table(headings, rows)


def _difference(entry: Entry) -> str:
    if entry.pair is None:
        return wording.ABSENT
    difference = entry.pair.difference
    bounds = f"{wording.points(difference.low)} to {wording.points(difference.high)}"
    return f"{wording.points(difference.mean)} ({bounds}) against `{entry.pair.baseline}`"


def _caveats(
    entries: Mapping[str, Entry], runs: Mapping[str, Sequence[Run]], dataset: Dataset
) -> list[str]:
    """Return what a reader must know before believing a verdict."""
    caveats = []
    labels = dataset.labels[dataset.rows("test")]
    chance = 100 * np.bincount(labels).max() / len(labels)
    for entry in entries.values():
        if entry.accuracy.low <= chance:
            caveats.append(
                f"**`{entry.model}` has learnt little or nothing**: naming the most frequent class "
                f"every time is right for {chance:.1f} % of the images. Train for longer or change "
                "`train.learning_rate` before comparing it."
            )
    improving = [
        f"`{model}`"
        for model, of_model in runs.items()
        if all(run.training["best_epoch"] == run.training["epochs"] for run in of_model)
    ]
    if improving:
        caveats.append(
            f"With every seed the last epoch was the best for {', '.join(improving)}: more "
            "`train.epochs` may change the result."
        )
    for entry in entries.values():
        if entry.pair and entry.pair.confounders:
            keys = ", ".join(f"`{key}`" for key in entry.pair.confounders)
            caveats.append(
                f"**`{entry.model}` and `{entry.pair.baseline}` differ in more than attention** "
                f"({keys}), so their difference says nothing about attention alone."
            )
    count = len(next(iter(entries.values())).accuracies)
    images = len(dataset.rows("test"))
    if count == 1:
        caveats.append(
            "With a single seed the interval knows nothing about how much another seed would "
            "change the result."
        )
    elif count < FEW_SEEDS:
        caveats.append(
            f"{count} seeds say little about how much other seeds would change the result: the "
            "interval is rather too narrow than too wide."
        )
    caveats.append(
        f"The test split has {images:,} images: one image is {100 / images:.2g} points of one "
        "seed's accuracy."
    )
    caveats.append(
        "Epochs and learning rates were chosen by the validation split alone; no decision looked "
        "at the test split."
    )
    return caveats


def _per_class(runs: Mapping[str, Sequence[Run]], classes: Sequence[str]) -> str:
    rows = []
    for name in classes:
        per_run = {
            model: [run.metrics["per_class"][name] for run in of_model]
            for model, of_model in runs.items()
        }
        support = next(iter(per_run.values()))[0]["support"]
        scores = [
            f"{100 * math.fsum(run['f1'] for run in of_model) / len(of_model):.1f}"
            for of_model in per_run.values()
        ]
        rows.append([markdown.escape(name), f"{support:,}", *scores])
    return markdown.table(["class", "test images", *(f"`{model}`" for model in runs)], rows)


def _data_sentence(dataset: Dataset) -> str:
    total = sum(len(dataset.rows(split)) for split in SPLITS)
    colour = {1: "grey", 3: "RGB"}.get(dataset.channels, f"{dataset.channels}-channel")
    size = dataset.image_size
    sentence = (
        f"{markdown.escape(dataset.name)}: {total:,} {colour} images of {size} x {size} pixels in "
        f"{len(dataset.classes)} classes, scaled to [0, 1], then normalised by mean "
        f"{_values(dataset.mean)} and standard deviation {_values(dataset.std)}."
    )
    if dataset.rejected:
        files = "1 file was" if dataset.rejected == 1 else f"{dataset.rejected:,} files were"
        sentence += f" {files} rejected: see `rejected.csv` beside the splits."
    return sentence


def _counts(dataset: Dataset) -> str:
    rows = [
        [
            markdown.escape(name),
            *(f"{dataset.counts.get(split, {}).get(name, 0):,}" for split in SPLITS),
        ]
        for name in dataset.classes
    ]
    rows.append(["**all**", *(f"**{len(dataset.rows(split)):,}**" for split in SPLITS)])
    return markdown.table(["class", "training", "validation", "test"], rows)


def _folded(table: str, rows: int, summary: str) -> str:
    """Fold a long table away."""
    if rows <= MOST_OPEN_ROWS:
        return table
    return f"<details>\n<summary>{summary}</summary>\n\n{table}\n\n</details>"


def _provenance(candidate: str, runs: Mapping[str, Sequence[Run]], provenance: Provenance) -> str:
    trained = [run.training for run in _all(runs)]
    where = [
        f"{record['device_name']} ({record['device']}, {record['precision']}, "
        f"{record['threads']} thread{'s' if record['threads'] != 1 else ''})"
        for record in trained
    ]
    seeds = ", ".join(str(run.seed) for run in runs[candidate])
    rows = [
        ["candidate", f"`{candidate}`"],
        ["seeds", seeds],
        ["code", _code(provenance.commit)],
        ["training on", _distinct(where)],
        ["trained with", _distinct(_versions(record["versions"]) for record in trained)],
        ["report on", f"{markdown.escape(provenance.processor)}, {provenance.cores} cores"],
        ["report with", _versions(provenance.versions)],
    ]
    return markdown.table(["", ""], rows).replace("--:", ":--")


def _code(commit: Commit | None) -> str:
    if commit is None:
        return "not in a git repository"
    changes = ", with uncommitted changes" if commit.changed else ""
    return f"commit `{commit.name}`{changes}"


def _commands(commit: Commit | None) -> str:
    checkout = [f"git checkout {commit.name}"] if commit else []
    run = ["make setup", "dvc repro            # or: snakemake --cores 4"]
    if commit and commit.changed:
        checkout.append("# then put the settings below into params.yaml, and redo other changes")
    return "\n".join([*checkout, *run])


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _distinct(texts: Any) -> str:
    return "; ".join(markdown.escape(text) for text in dict.fromkeys(texts))


def _values(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _all(runs: Mapping[str, Sequence[Run]]) -> list[Run]:
    return [run for of_model in runs.values() for run in of_model]
