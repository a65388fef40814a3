"""The report as Markdown, from the comparison and what surrounds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.data.arrays import Dataset
from pipeline.reporting import markdown, wording
from pipeline.reporting.comparison import Comparison, EnsembleKind, Entry
from pipeline.reporting.design import Design
from pipeline.reporting.provenance import Commit
from pipeline.reporting.results import Run
from pipeline.reporting.summary import Summary

TEMPLATE = "template.md.j2"
MOST_OPEN_ROWS = 20
FEW_RUNS = 5


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
    comparison: Comparison,
    ensembles: Sequence[EnsembleKind],
    dataset: Dataset,
    links: Links,
    provenance: Provenance,
) -> str:
    """Return the report.

    Args:
        candidate: the architecture it is about.
        comparison: what was compared, and what came of it.
        ensembles: the kinds that were asked for.
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
    runs, design, judgement = comparison.runs, comparison.design, comparison.judgement
    others = [
        model
        for model, entry in comparison.entries.items()
        if entry.pair is not None and model != candidate
    ]
    return environment.get_template(TEMPLATE).render(
        title=_title(candidate, name, comparison),
        answer=wording.answer(candidate, name, comparison),
        other_answers=[wording.answer(model, name, comparison) for model in others],
        comparison=_comparison(comparison, candidate),
        unit=design.unit,
        same_images=design.same_images,
        ensembles=_ensembles(comparison, ensembles),
        confidence=f"{100 * judgement.confidence:g} %",
        timed_on=_distinct(run.timings["device_name"] for run in _all(runs)),
        accuracy_figure=markdown.image("Test accuracies and differences", links.accuracies),
        margin=f"{judgement.margin:g}",
        resamples=f"{judgement.resamples:,}",
        caveats=_caveats(comparison, dataset),
        learning_curves=markdown.image("Learning curves", links.learning_curves),
        stopped_early=_stopped_early(runs),
        per_class=_folded(
            _per_class(runs, dataset.classes, design), len(dataset.classes), "F1 by class"
        ),
        confusion_matrices=markdown.image("Confusion matrices", links.confusion_matrices),
        first_run=f"{design.unit} {runs[candidate][0].seed}",
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
        data_sentences=_data_sentences(dataset, [run.seed for run in runs[candidate]]),
        counts=_folded(_counts(dataset), len(dataset.classes), "Images by class"),
        samples=markdown.image("Sample images", links.samples),
        provenance=_provenance(runs[candidate], _all(runs), design, provenance),
        commands=markdown.fenced(_commands(provenance.commit), "sh"),
        params=markdown.fenced(provenance.params, "yaml"),
    )


def _title(candidate: str, dataset: str, comparison: Comparison) -> str:
    pair = comparison.entries[candidate].pair
    against = f" against `{pair.baseline}`" if pair else ""
    return f"`{candidate}`{against} on {dataset}"


def _comparison(comparison: Comparison, candidate: str) -> str:
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
    for entry in comparison.entries.values():
        name = f"`{entry.model}`"
        shown = f"**{name}** (candidate)" if entry.model == candidate else name
        judged = entry.pair.verdict if entry.pair else wording.ABSENT
        rows.append(_row(shown, entry.summary, _difference(entry), judged))
    rows += [
        _row(f"*{wording.ensemble(of)}*", of.summary, wording.ABSENT, wording.ABSENT)
        for of in comparison.ensembles
    ]
    return markdown.table(headings, rows)


def _row(name: str, summary: Summary, difference: str, verdict: str) -> list[str]:
    return [
        name,
        wording.spread(summary.accuracy.mean, summary.accuracy_sd),
        difference,
        verdict,
        f"{summary.parameters:,}",
        wording.large(summary.macs),
        f"{summary.latency_ms:.3g} ms",
        wording.duration(summary.training_seconds),
    ]


def _ensembles(comparison: Comparison, wanted: Sequence[EnsembleKind]) -> list[str]:
    """Return the sentences on the ensembles; none where there are none and none were wanted."""
    sentences = []
    if comparison.ensembles:
        gains = [
            f"{wording.points(of.gain)} for "
            + (f"`{of.model}`" if of.model else f"all {len(of.members)} architectures together")
            for of in comparison.ensembles
        ]
        sentences.append(
            "An ensemble answers by the mean of its members' probabilities; its parameters, MACs, "
            "latency and training time are the sums of theirs. Points of test accuracy gained over "
            f"the mean of its members: {', '.join(gains)}."
        )
    if "seeds" in wanted and not comparison.design.same_images:
        sentences.append(
            "There are no ensembles over seeds: in cross-validation the runs of an architecture "
            "are tested on different images."
        )
    return sentences


def _difference(entry: Entry) -> str:
    if entry.pair is None:
        return wording.ABSENT
    difference = entry.pair.difference
    bounds = f"{wording.points(difference.low)} to {wording.points(difference.high)}"
    return f"{wording.points(difference.mean)} ({bounds}) against `{entry.pair.baseline}`"


def _caveats(comparison: Comparison, dataset: Dataset) -> list[str]:
    """Return what a reader must know before believing a verdict."""
    entries, design = comparison.entries, comparison.design
    some_runs = next(iter(comparison.runs.values()))
    labels = design.test_labels(some_runs)
    return [
        *_copied_test_images(dataset, len(labels)),
        *_learnt_little(entries, 100 * np.bincount(labels).max() / len(labels)),
        *_still_improving(comparison.runs, design.unit),
        *(
            f"**`{entry.model}` and `{entry.pair.baseline}` "
            f"{wording.confounded(entry.pair, comparison.architectures)}**, so their difference "
            "says nothing about attention alone."
            for entry in entries.values()
            if entry.pair and entry.pair.confounders
        ),
        *_runs_and_images(design, len(some_runs), len(labels)),
        "Epochs and learning rates were chosen by the validation split alone; no decision looked "
        "at the test split.",
    ]


def _copied_test_images(dataset: Dataset, images: int) -> Iterator[str]:
    copied = dataset.duplicates.test_images
    if copied:
        elsewhere = "in training or validation" if dataset.folds is None else "in another fold"
        yield (
            f"**{copied:,} of {images:,} test images also {'lies' if copied == 1 else 'lie'} "
            f"{elsewhere}**, pixel for pixel: the accuracies may be too high. "
            "`duplicates.csv` beside the splits lists them."
        )


def _learnt_little(entries: Mapping[str, Entry], chance: float) -> Iterator[str]:
    for entry in entries.values():
        if entry.summary.accuracy.low <= chance:
            yield (
                f"**`{entry.model}` has learnt little or nothing**: naming the most frequent class "
                f"every time is right for {chance:.1f} % of the images. Train for longer or change "
                "`train.learning_rate` before comparing it."
            )


def _still_improving(runs: Mapping[str, Sequence[Run]], unit: str) -> Iterator[str]:
    improving = {
        model: of_model
        for model, of_model in runs.items()
        if all(run.training["best_epoch"] == run.training["epochs"] for run in of_model)
    }
    if improving:
        stopped = any(run.stopped_early for run in _all(improving))
        setting = "a larger `train.early_stopping`" if stopped else "more `train.epochs`"
        yield (
            f"With every {unit} the last epoch was the best for "
            f"{', '.join(f'`{model}`' for model in improving)}: {setting} may change the result."
        )


def _runs_and_images(design: Design, runs: int, images: int) -> Iterator[str]:
    """Say what so many runs and images can tell."""
    if not design.same_images:
        yield (
            "Each run learns from images that the others are tested on, and folds share training "
            "images, so the runs are not independent: no unbiased estimate of their variance "
            "exists (Bengio and Grandvalet, 2004), and the interval is approximate."
        )
    elif runs == 1:
        yield (
            "With a single seed the interval knows nothing about how much another seed would "
            "change the result."
        )
    if 1 < runs < FEW_RUNS:
        yield (
            f"{runs} {design.unit}s say little about how much other {design.unit}s would change "
            "the result: the interval is rather too narrow than too wide."
        )
    if design.same_images:
        yield (
            f"The test split has {images:,} images: one image is {100 / images:.2g} points of one "
            "seed's accuracy."
        )
    else:
        yield (
            f"Each of {images:,} images is tested once: one image is {100 / images:.2g} points of "
            "an accuracy."
        )


def _stopped_early(runs: Mapping[str, Sequence[Run]]) -> str:
    """Return how many runs ended early; nothing if none did."""
    everything = _all(runs)
    stopped = [run for run in everything if run.stopped_early]
    if not stopped:
        return ""
    first = min(run.training["epochs"] for run in stopped)
    return (
        f"Early stopping ended {len(stopped)} of {len(everything)} runs, the first after epoch "
        f"{first}; where a run has ended, thin lines show those that went on, one by one."
    )


def _per_class(runs: Mapping[str, Sequence[Run]], classes: Sequence[str], design: Design) -> str:
    scores = {model: design.class_scores(of_model, classes) for model, of_model in runs.items()}
    support = next(iter(scores.values()))
    rows = [
        [
            markdown.escape(name),
            f"{support[name]['support']:,}",
            *(f"{100 * of_model[name]['f1']:.1f}" for of_model in scores.values()),
        ]
        for name in classes
    ]
    return markdown.table(["class", "test images", *(f"`{model}`" for model in runs)], rows)


def _data_sentences(dataset: Dataset, seeds: Sequence[int]) -> list[str]:
    colour = {1: "grey", 3: "RGB"}.get(dataset.channels, f"{dataset.channels}-channel")
    size = dataset.image_size
    sentences = [
        f"{markdown.escape(dataset.name)}: {len(dataset.labels):,} {colour} images of {size} x "
        f"{size} pixels in {len(dataset.classes)} classes, scaled to [0, 1], then normalised by "
        f"{_normalisation([dataset.for_run(seed) for seed in seeds])}."
    ]
    if dataset.folds is not None:
        sentences.append(
            f"The images are divided into {dataset.folds} folds. Each run holds one of them out as "
            "its test split and divides the others into training and validation."
        )
    if dataset.rejected:
        files = "1 file was" if dataset.rejected == 1 else f"{dataset.rejected:,} files were"
        sentences.append(
            f"{files} set aside (`data.unusable_files`): `rejected.csv` beside the splits names "
            "each with the reason."
        )
    sentences += _duplicates(dataset)
    return sentences


def _normalisation(of_runs: Sequence[Dataset]) -> str:
    first = of_runs[0]
    mean, std = _values(first.mean), _values(first.std)
    same = all(
        np.array_equal(first.mean, run.mean) and np.array_equal(first.std, run.std)
        for run in of_runs
    )
    if same:
        return f"mean {mean} and standard deviation {std}"
    return (
        "mean and standard deviation of each run's own training split "
        f"(of the first: {mean} and {std})"
    )


def _duplicates(dataset: Dataset) -> Iterator[str]:
    found = dataset.duplicates
    if found.groups:
        part = "split" if dataset.folds is None else "fold"
        yield (
            f"{found.images:,} images are exact copies of one another (groups: {found.groups:,}, "
            f"in more than one {part}: {found.across_splits:,}, in more than one class: "
            f"{found.across_classes:,}): `duplicates.csv` beside the splits lists them."
        )


def _counts(dataset: Dataset) -> str:
    headings = {"train": "training"}
    rows = [
        [
            markdown.escape(name),
            *(f"{of_part.get(name, 0):,}" for of_part in dataset.counts.values()),
        ]
        for name in dataset.classes
    ]
    totals = [sum(of_part.values()) for of_part in dataset.counts.values()]
    rows.append(["**all**", *(f"**{total:,}**" for total in totals)])
    return markdown.table(["class", *(headings.get(part, part) for part in dataset.counts)], rows)


def _folded(table: str, rows: int, summary: str) -> str:
    """Fold a long table away."""
    if rows <= MOST_OPEN_ROWS:
        return table
    return f"<details>\n<summary>{summary}</summary>\n\n{table}\n\n</details>"


def _provenance(
    candidate: Sequence[Run], runs: Sequence[Run], design: Design, provenance: Provenance
) -> str:
    trained = [run.training for run in runs]
    where = [
        f"{record['device_name']} ({record['device']}, {record['precision']}, "
        f"{record['threads']} thread{'s' if record['threads'] != 1 else ''})"
        for record in trained
    ]
    rows = [
        ["candidate", f"`{candidate[0].model}`"],
        [f"{design.unit}s", ", ".join(str(run.seed) for run in candidate)],
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
