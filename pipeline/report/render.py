"""The report as Markdown, from the comparison and what surrounds it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.comparison import doubts
from pipeline.comparison.compare import Comparison, EnsembleKind, Entry, Pair
from pipeline.comparison.design import Design
from pipeline.comparison.runs import Explanation, Run
from pipeline.comparison.summary import Summary
from pipeline.data.arrays import Dataset
from pipeline.report import findings, heading, markdown, published_accuracies, wording
from pipeline.report.findings import Area
from pipeline.report.heading import Badge, Card
from pipeline.storage.records import CONTROLS
from pipeline.system import formats
from pipeline.system.provenance import Commit

TEMPLATE = "report.md.j2"
TUTORIAL_REMARK = (
    "84.68 against 85.38 % is one run each, and 70 of 10,000 images: p = 0.165 (unpaired). It "
    "decides nothing, which is why several seeds are compared here, image by image."
)
MOST_OPEN_ROWS = 20
FEW_RUNS = 5


@dataclass(frozen=True)
class Figures:
    """Links to the report's own figures, relative to it; None where there is nothing to draw.

    Attributes:
        accuracy: test accuracies and differences.
        trade_off: accuracy against costs.
        class_differences: of each pair.
        disagreements: images that one of candidate and baseline got right.
        mistakes: the candidate's surest mistakes.
        confusion_matrices: of each architecture.
        faithfulness: of the heatmaps of all architectures.
        reliability: confidence against accuracy.
        learning_curves: of each architecture.
        samples: of the training images.
        architectures: by architecture, the folder of the figures that explain it.
    """

    accuracy: str
    trade_off: str
    class_differences: str | None
    disagreements: str | None
    mistakes: str | None
    confusion_matrices: str
    faithfulness: str | None
    reliability: str
    learning_curves: str
    samples: str
    architectures: Mapping[str, str]


@dataclass(frozen=True)
class Provenance:
    """Where the results come from."""

    commit: Commit | None
    versions: Mapping[str, str]
    processor: str
    cores: int
    params: str


@dataclass(frozen=True)
class Report:
    """The report: its Markdown, and what stands at the head of the page made of it.

    Attributes:
        text: Markdown.
        badge: the verdict on the candidate; None if it has no baseline.
        cards: key numbers.
    """

    text: str
    badge: Badge | None
    cards: Sequence[Card]


def render(
    candidate: str,
    comparison: Comparison,
    ensembles: Sequence[EnsembleKind],
    explanations: Mapping[str, Explanation],
    dataset: Dataset,
    figures: Figures,
    provenance: Provenance,
) -> Report:
    """Return the report.

    Args:
        candidate: the architecture it is about.
        comparison: what was compared, and what came of it.
        ensembles: the kinds that were asked for.
        explanations: by architecture, of those that were explained.
        dataset: the images.
        figures: where they are.
        provenance: of the results.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    text = environment.get_template(TEMPLATE).render(
        **_answer(candidate, comparison, dataset),
        **_compared(candidate, comparison, ensembles, figures),
        **_classes(candidate, comparison, figures),
        **_looks(candidate, comparison, explanations, figures),
        **_certainty(candidate, comparison, explanations, dataset, figures),
        **_making(candidate, comparison, dataset, figures, provenance),
    )
    return Report(
        text=text,
        badge=heading.badge(candidate, comparison, dataset.duplicates.test_images),
        cards=heading.cards(candidate, comparison),
    )


def _answer(candidate: str, comparison: Comparison, dataset: Dataset) -> dict[str, Any]:
    name = wording.images_of(dataset.name)
    copied = dataset.duplicates.test_images
    first = comparison.entries[candidate].pair
    against = f" against `{first.baseline}`" if first else ""
    others = [pair for pair in doubts.pairs(comparison, candidate) if pair is not first]
    return {
        "title": f"`{candidate}`{against} on {name}",
        "answer": wording.answer(candidate, name, comparison, copied),
        "other_answers": [wording.answer(of.model, name, comparison, 0) for of in others],
        "has_pair": first is not None,
        "confounded": any(pair.confounders for pair in doubts.pairs(comparison, candidate)),
        "overturning": list(_overturning(candidate, comparison, dataset)),
    }


def _overturning(candidate: str, comparison: Comparison, dataset: Dataset) -> Iterator[str]:
    """Say what makes the answers worth nothing, or less than they seem."""
    design = comparison.design
    runs = next(iter(comparison.runs.values()))
    chance = doubts.majority_class_accuracy(comparison)
    for model in doubts.no_better_than_guessing(comparison, comparison.entries):
        accuracy = comparison.entries[model].summary.accuracy
        yield (
            f"**`{model}` has learnt little or nothing**: it is right for "
            f"{formats.percent(accuracy.mean)} of the test images {wording.interval(accuracy)}; "
            f"naming the most frequent class every time is right for {chance:.1f} %. Train for "
            "longer or change `train.learning_rate` before comparing it."
        )
    pairs = doubts.pairs(comparison, candidate)
    for pair in pairs:
        both = f"`{pair.model}` and `{pair.baseline}`"
        if doubts.same_settings(pair, comparison.architectures):
            yield (
                f"**{both} have the same settings**: trained with the same {design.unit} they are "
                "the same network. Give them different attention in `architectures`."
            )
        if pair.confounders:
            yield (
                f"**{both} {wording.confounded(pair, comparison.architectures)}**, so their "
                "difference says nothing about attention alone."
            )
    copied = dataset.duplicates.test_images
    if copied:
        images = len(design.test_labels(runs))
        yield (
            f"**{wording.copies(copied, images, design)}**, pixel for pixel: the accuracies may be "
            "too high. `duplicates.csv` beside the splits lists them."
        )
    if len(runs) == 1 and pairs:
        yield (
            f"**There is a single {design.unit}**: how much another would change the result is not "
            "known, and the interval leaves it out. List more in `seeds`."
        )


def _compared(
    candidate: str,
    comparison: Comparison,
    ensembles: Sequence[EnsembleKind],
    figures: Figures,
) -> dict[str, Any]:
    """Return the parts on accuracy and cost."""
    design, runs = comparison.design, _all(comparison.runs)
    return {
        "comparison": _comparison(comparison, candidate),
        "unit": design.unit,
        "several_runs": len(runs) > len(comparison.runs),
        "same_images": design.same_images,
        "confidence": f"{100 * comparison.judgement.confidence:g} %",
        "timed_on": _distinct(run.timings.device_name for run in runs),
        "ensembles": _ensembles(comparison, ensembles),
        "accuracy_figure": markdown.image("Test accuracies and differences", figures.accuracy),
        "costs": [
            *(findings.cost(pair, comparison) for pair in doubts.pairs(comparison, candidate)),
            *filter(None, [findings.on_the_front(comparison)]),
        ],
        "trade_off": markdown.image("Test accuracy against costs", figures.trade_off),
    }


def _classes(candidate: str, comparison: Comparison, figures: Figures) -> dict[str, Any]:
    """Return the parts on where a pair helps and hurts."""
    pairs = doubts.pairs(comparison, candidate)
    confidence = comparison.judgement.confidence
    return {
        "exchanges": [
            f"{findings.exchanged(pair, comparison)} {findings.moved_classes(pair, confidence)}"
            for pair in pairs
        ],
        "class_differences": _image("Difference of recall by class", figures.class_differences),
        "disagreements": _image(
            "Images that one of candidate and baseline got right", figures.disagreements
        ),
        "mistakes": _image(f"Surest mistakes of {candidate}", figures.mistakes),
        "candidate": candidate,
        "confusion_matrices": markdown.folded(
            "Confusion matrices",
            markdown.image("Confusion matrices", figures.confusion_matrices)
            + f"\n\nCounts of test images over all {comparison.design.unit}s; the shade is the "
            "share of the true class.",
        ),
        "per_class": _folded_if_long(
            _per_class(comparison), len(comparison.classes), "F1 by class"
        ),
    }


def _looks(
    candidate: str,
    comparison: Comparison,
    explanations: Mapping[str, Explanation],
    figures: Figures,
) -> dict[str, Any]:
    """Return the part on heatmaps and attention."""
    pair = comparison.entries[candidate].pair
    compared = [candidate, *([pair.baseline] if pair else [])]
    order = sorted(explanations, key=lambda model: (model not in compared, model != candidate))
    shown = [
        Shown(explanations[model], figures.architectures[model], model in compared)
        for model in order
    ]
    explained = [one.explanation for one in shown]
    first_run = f"{comparison.design.unit} {comparison.runs[candidate][0].seed}"
    measured = {int(one.faithfulness["images"].max()) for one in explained}
    return {
        "first_run": first_run,
        "measured_images": f"{max(measured):,}" if measured else "",
        "explained": bool(shown),
        "heatmaps": [one.figure("Class activation maps", "cams.png") for one in shown],
        "faithfulness": _image("How faithful the heatmaps are", figures.faithfulness),
        "faithful": [findings.faithful(explanation) for explanation in explained],
        "faithfulness_table": _faithfulness(explained),
        "faithfulness_curves": _of_all(shown, "Deletion and insertion curves", "faithfulness.png"),
        "randomised": [findings.randomised(explanation) for explanation in explained],
        "randomisation": _of_all(shown, "The randomisation check", "randomisation.png"),
        "attention": [
            (
                findings.attention(one.explanation, first_run),
                one.figure("How attention weights vary", "attention_variation.png"),
                one.figure("Attention weights by class", "attention.png"),
                f"[attention.csv]({one.link('attention.csv')}), "
                f"[attention_variation.csv]({one.link('attention_variation.csv')})",
            )
            for one in shown
            if one.explanation.variation is not None
        ],
        "strongest_channels": _of_all(shown, "The strongest channels", "heatmaps.png"),
        "feature_maps": _of_all(shown, "Feature maps", "feature_maps.png"),
    }


@dataclass(frozen=True)
class Shown:
    """An explained architecture in the report.

    Attributes:
        explanation: what was found out about it.
        folder: the link to its figures.
        compared: whether it is the candidate or the candidate's baseline. The figures of others are
            folded away.
    """

    explanation: Explanation
    folder: str
    compared: bool

    def link(self, name: str) -> str:
        """Return the link to one of its files."""
        return f"{self.folder}/{name}"

    def figure(self, what: str, name: str) -> str:
        """Return one of its figures."""
        description = f"{what}: {self.explanation.model}"
        figure = markdown.image(description, self.link(name))
        return figure if self.compared else markdown.folded(description, figure)


def _of_all(shown: Sequence[Shown], what: str, name: str) -> str:
    """Return a figure of every architecture, folded away together."""
    figures = [markdown.image(f"{what}: {one.explanation.model}", one.link(name)) for one in shown]
    return markdown.folded(what, "\n\n".join(figures))


def _faithfulness(explanations: Sequence[Explanation]) -> str:
    headings = ["heatmap", "deletion", "insertion", "against chance", "against the centre"]
    rows = []
    for explanation in explanations:
        areas = findings.areas(explanation)
        rows += [
            [
                f"`{explanation.model}`: {name}",
                *(_area(areas[heatmap, curve]) for curve in ("deletion", "insertion")),
                *(_against(areas, heatmap, control) for control in CONTROLS),
            ]
            for heatmap, name in findings.HEATMAPS.items()
        ]
    return markdown.folded("Areas under the curves", markdown.table(headings, rows))


def _area(area: Area) -> str:
    return f"{area.mean:.3f} ({area.low:.3f} to {area.high:.3f})"


def _against(areas: Mapping[tuple[str, str], Area], heatmap: str, control: str) -> str:
    if heatmap in CONTROLS:
        return formats.ABSENT
    outcomes = findings.against_control(areas, heatmap, control)
    return " / ".join(dict.fromkeys(outcomes))


def _certainty(
    candidate: str,
    comparison: Comparison,
    explanations: Mapping[str, Explanation],
    dataset: Dataset,
    figures: Figures,
) -> dict[str, Any]:
    """Return the part on how sure all this is."""
    judgement = comparison.judgement
    pairs = doubts.pairs(comparison, candidate)
    error = 1 - judgement.confidence
    return {
        "margin": f"{judgement.margin:g}",
        "error": f"{error:.3g}",
        "half_error": f"{error / 2:.3g}",
        "resamples": f"{judgement.resamples:,}",
        "pairs": _pairs(pairs, comparison) if pairs else "",
        "exact_tests": _exact_tests(pairs, comparison) if pairs else "",
        "powers": [_power(pair, comparison) for pair in pairs],
        "calibration": _calibration(comparison),
        "reliability": markdown.image("Confidence against accuracy", figures.reliability),
        "doubts": [*_idle_attention(comparison, explanations), *_doubts(comparison)],
        "published": _published(comparison, dataset),
    }


def _pairs(pairs: Sequence[Pair], comparison: Comparison) -> str:
    margin = f"p of +{comparison.judgement.margin:g} points"
    headings = ["pair", "difference", "p", "p, all pairs", margin, "verdict"]
    rows = [
        [
            f"`{pair.model}` - `{pair.baseline}`",
            _bounds(pair),
            formats.p_value(pair.p),
            formats.p_value(pair.p_holm),
            formats.p_value(pair.p_margin_holm),
            _judged(pair, comparison),
        ]
        for pair in pairs
    ]
    return markdown.table(headings, rows)


def _exact_tests(pairs: Sequence[Pair], comparison: Comparison) -> str:
    unit = comparison.design.unit
    rows = [
        [
            f"`{pair.model}` - `{pair.baseline}`",
            str(run.seed),
            f"{test.gained:,}",
            f"{test.lost:,}",
            formats.p_value(test.p),
        ]
        for pair in pairs
        for run, test in zip(comparison.runs[pair.model], pair.mcnemar, strict=True)
    ]
    table = markdown.table(["pair", unit, "gained", "lost", "p (McNemar, exact)"], rows)
    return _folded_if_long(table, len(rows), f"Images gained and lost, by {unit}")


def _power(pair: Pair, comparison: Comparison) -> str:
    names = f"`{pair.model}` against `{pair.baseline}`"
    if len(pair.mcnemar) == 1:
        return f"{names}: a single {comparison.design.unit} finds no difference, however large."
    if math.isnan(pair.smallest_detectable):
        return f"{names}: what it could have shown can't be told, as no image divides the two."
    design = comparison.design
    images = len(design.test_labels(comparison.runs[pair.model]))
    if pair.smallest_detectable >= 100:
        return f"{names}: no difference is so large that 4 of 5 such experiments would find it."
    return (
        f"{names}: with {design.described(len(pair.mcnemar))} and {images:,} test images, a true "
        f"difference has to be {pair.smallest_detectable:.2f} points to be found by 4 of 5 such "
        "experiments."
    )


def _calibration(comparison: Comparison) -> str:
    named = {f"`{entry.model}`": entry.summary for entry in comparison.entries.values()}
    named |= {f"*{wording.ensemble(of)}*": of.summary for of in comparison.ensembles}
    rows = [
        [
            name,
            f"{100 * summary.ece:.2f}",
            f"{summary.brier:.4f}",
            f"{summary.nll:.4f}",
        ]
        for name, summary in named.items()
    ]
    return markdown.table(
        ["network", "calibration error", "Brier score", "negative log-likelihood"], rows
    )


def _published(comparison: Comparison, dataset: Dataset) -> str:
    rows = [
        [
            f"`{model}`",
            _accuracy(entry.summary),
            f"{figure.accuracy:.2f}",
            figure.network,
            figure.conditions,
            figure.source,
        ]
        for model, entry in comparison.entries.items()
        for figure in published_accuracies.figures_for(comparison.architectures[model], dataset)
    ]
    if not rows:
        return ""
    headings = ["ours", "test accuracy", "published", "network", "conditions", "source"]
    text = markdown.table(headings, rows)
    shown = {row[2] for row in rows}
    return f"{text}\n\n{TUTORIAL_REMARK}" if {"84.68", "85.38"} <= shown else text


def _making(
    candidate: str,
    comparison: Comparison,
    dataset: Dataset,
    figures: Figures,
    provenance: Provenance,
) -> dict[str, Any]:
    """Return the part on how the results came about."""
    runs, design = comparison.runs, comparison.design
    return {
        "learning_curves": markdown.image("Learning curves", figures.learning_curves),
        "stopped_early": _stopped_early(runs),
        "data_sentences": _data_sentences(dataset, [run.seed for run in runs[candidate]]),
        "counts": _folded_if_long(_counts(dataset), len(dataset.classes), "Images by class"),
        "samples": markdown.image("Sample images", figures.samples),
        "provenance": _provenance(runs[candidate], _all(runs), design, provenance),
        "commands": markdown.fenced(_commands(provenance.commit), "sh"),
        "params": markdown.folded("params.yaml", markdown.fenced(provenance.params, "yaml")),
    }


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
        rows.append(_row(shown, entry.summary, _difference(entry), _judged(entry.pair, comparison)))
    rows += [
        _row(f"*{wording.ensemble(of)}*", of.summary, formats.ABSENT, formats.ABSENT)
        for of in comparison.ensembles
    ]
    return markdown.table(headings, rows)


def _judged(pair: Pair | None, comparison: Comparison) -> str:
    """Return the verdict on a pair, with a star if it is not about attention alone."""
    if pair is None:
        return formats.ABSENT
    star = r" \*" if pair.confounders else ""
    return f"{doubts.judged(pair, comparison)}{star}"


def _row(name: str, summary: Summary, difference: str, verdict: str) -> list[str]:
    return [
        name,
        _accuracy(summary),
        difference,
        verdict,
        f"{summary.parameters:,}",
        formats.large(summary.macs),
        formats.latency(summary.latency_ms),
        formats.duration(summary.training_seconds),
    ]


def _accuracy(summary: Summary) -> str:
    return formats.spread(summary.accuracy.mean, summary.accuracy_sd)


def _ensembles(comparison: Comparison, wanted: Sequence[EnsembleKind]) -> list[str]:
    """Return the sentences on the ensembles; none where there are none and none were wanted."""
    sentences = []
    if comparison.ensembles:
        gains = [
            f"{formats.points(of.gain)} for "
            + (f"`{of.model}`" if of.model else _all_together(len(of.members)))
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


def _all_together(architectures: int) -> str:
    return "both architectures" if architectures == 2 else f"all {architectures} architectures"


def _difference(entry: Entry) -> str:
    if entry.pair is None:
        return formats.ABSENT
    return f"{_bounds(entry.pair)} against `{entry.pair.baseline}`"


def _bounds(pair: Pair) -> str:
    low, high = formats.points(pair.difference.low), formats.points(pair.difference.high)
    return f"{formats.points(pair.difference.mean)} ({low} to {high})"


def _idle_attention(
    comparison: Comparison, explanations: Mapping[str, Explanation]
) -> Iterator[str]:
    """Say which attention does nothing, so that no difference can be its doing."""
    for model, explanation in explanations.items():
        modules = explanation.variation
        if modules is not None and (idle := doubts.idle(modules)):
            run = f"{comparison.design.unit} {comparison.runs[model][0].seed}"
            yield (
                f"{len(idle)} of {len(modules)} attention modules of `{model}` ({run}) do nothing "
                "but multiply all channels by the same number, whatever the image."
            )


def _doubts(comparison: Comparison) -> Iterator[str]:
    """Say what a reader should keep in mind besides what overturns the answer."""
    design = comparison.design
    unlearnt = doubts.no_better_than_guessing(comparison, comparison.entries)
    for model in doubts.not_better_than_majority(comparison, comparison.entries):
        if model not in unlearnt:
            yield (
                f"`{model}` is not shown to be right more often than who names the most frequent "
                f"class every time ({doubts.majority_class_accuracy(comparison):.1f} %); but "
                f"it tells the classes apart: their mean recall is "
                f"{doubts.mean_recall(comparison, model):.1f} %."
            )
    runs = next(iter(comparison.runs.values()))
    improving = doubts.still_improving(comparison)
    if improving:
        stopped = any(run.stopped_early for model in improving for run in comparison.runs[model])
        setting = "a larger `train.early_stopping`" if stopped else "more `train.epochs`"
        last = f"With every {design.unit} the last epoch" if len(runs) > 1 else "The last epoch"
        yield (
            f"{last} was the best for "
            f"{formats.listed([f'`{model}`' for model in improving])}: {setting} may change the "
            "result."
        )
    yield from _runs_and_images(design, len(runs), len(design.test_labels(runs)))
    yield (
        "Epochs and learning rates were chosen by the validation split alone; no decision looked "
        "at the test split."
    )


def _runs_and_images(design: Design, runs: int, images: int) -> Iterator[str]:
    """Say what so many runs and images can tell."""
    if not design.same_images:
        yield (
            "Each run learns from images that the others are tested on, and folds share training "
            "images, so the runs are not independent: no unbiased estimate of their variance "
            "exists (Bengio and Grandvalet, 2004), and the interval is approximate."
        )
    if 1 < runs < FEW_RUNS:
        yield (
            f"{runs} {design.unit}s say little about how much other {design.unit}s would change "
            "the result: the interval is rather too narrow than too wide, and the verdict asks for "
            "the test besides."
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
    first = min(run.training.epochs for run in stopped)
    return (
        f"Early stopping ended {len(stopped)} of {len(everything)} runs, the first after epoch "
        f"{first}; where a run has ended, thin lines show those that went on, one by one."
    )


def _per_class(comparison: Comparison) -> str:
    runs, classes = comparison.runs, comparison.classes
    scores = {
        model: comparison.design.class_scores(of_model, classes) for model, of_model in runs.items()
    }
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
        f"{len(dataset.labels):,} {colour} images of {size} x {size} pixels in "
        f"{len(dataset.classes)} classes ({wording.images_of(dataset.name)}), scaled to [0, 1], "
        "then normalised by "
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


def _image(description: str, link: str | None) -> str:
    """Return an image; nothing where there is none."""
    return markdown.image(description, link) if link else ""


def _folded_if_long(table: str, rows: int, summary: str) -> str:
    return table if rows <= MOST_OPEN_ROWS else markdown.folded(summary, table)


def _provenance(
    candidate: Sequence[Run], runs: Sequence[Run], design: Design, provenance: Provenance
) -> str:
    trained = [run.training for run in runs]
    where = [
        f"{record.device_name} ({record.device}, {record.precision}, "
        f"{record.threads} thread{'s' if record.threads != 1 else ''})"
        for record in trained
    ]
    rows = [
        ["candidate", f"`{candidate[0].model}`"],
        [f"{design.unit}s", ", ".join(str(run.seed) for run in candidate)],
        ["code", _code(provenance.commit)],
        ["training on", _distinct(where)],
        ["trained with", _distinct(_versions(record.versions) for record in trained)],
        ["report on", f"{markdown.escape(provenance.processor)}, {provenance.cores} cores"],
        ["report with", _versions(provenance.versions)],
    ]
    return markdown.table(["", ""], rows)


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
