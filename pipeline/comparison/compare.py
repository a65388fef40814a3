"""The comparison: each architecture, each pair's difference, and the ensembles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import Summary, Trial, ensemble_trial, run_trial, summarise
from pipeline.statistics.estimates import (
    Bootstrap,
    Difference,
    paired_difference,
    paired_gains,
    recall_difference,
)
from pipeline.statistics.significance import (
    McNemar,
    Verdict,
    corrected_p_values,
    discordant_gain,
    mcnemar,
    smallest_detectable,
    verdict,
)

# What a pair may differ in: the attention under test, and the name of the baseline.
UNDER_TEST = frozenset({"attention", "reduction", "heads", "baseline"})

EnsembleKind = Literal["seeds", "architectures"]


@dataclass(frozen=True)
class ClassDifference:
    """How an architecture differs from its baseline on the images of one class.

    The interval is that class's own: among many classes a few exclude 0 by luck.

    Attributes:
        name: of the class.
        images: its different test images.
        difference: of its recall, in percentage points; NaN where no run was tested on the class.
    """

    name: str
    images: int
    difference: Difference


@dataclass(frozen=True)
class Pair:
    """An architecture against its baseline.

    Attributes:
        model: the architecture.
        baseline: its baseline.
        difference: of test accuracy, in percentage points.
        mcnemar: of each run.
        p: two-sided, of no difference, over runs and images; NaN for a single run, and where no
            difference was seen in any image.
        p_holm: the same, corrected for all pairs of the comparison.
        p_margin: one-sided, of a gain of the margin or more; NaN where `p` is.
        p_margin_holm: the same, corrected for all pairs of the comparison.
        smallest_detectable: the true gain in percentage points that a repetition would detect with
            a probability of 80 %; for a single run, that another test of the same two networks
            would.
        verdict: whether it pays.
        confounders: settings besides the attention in which the two differ.
        by_class: in the order of the classes.
    """

    model: str
    baseline: str
    difference: Difference
    mcnemar: tuple[McNemar, ...]
    p: float
    p_holm: float
    p_margin: float
    p_margin_holm: float
    smallest_detectable: float
    verdict: Verdict
    confounders: tuple[str, ...]
    by_class: tuple[ClassDifference, ...]


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        model: its name.
        summary: of its runs.
        pair: the comparison with its baseline, if it has one.
    """

    model: str
    summary: Summary
    pair: Pair | None


@dataclass(frozen=True)
class Ensemble:
    """Several networks that answer together.

    Attributes:
        model: the architecture whose runs these are; None for one run of each architecture.
        members: their names: of runs such as ``cnn-0``, or of architectures.
        summary: of the one ensemble of all seeds, or of the ensembles of each run.
        gain: how much more accurate it is than its members on average, in percentage points.
    """

    model: str | None
    members: tuple[str, ...]
    summary: Summary
    gain: float

    @property
    def label(self) -> str:
        """Return such as ``ensemble: cnn, 3 seeds`` or ``ensemble: 4 architectures``."""
        count = len(self.members)
        return (
            f"ensemble: {self.model}, {count} seeds"
            if self.model
            else f"ensemble: {count} architectures"
        )


@dataclass(frozen=True)
class Judgement:
    """How pairs are judged: see `statistics.Bootstrap` and `significance.verdict`."""

    confidence: float
    resamples: int
    margin: float
    seed: int


@dataclass(frozen=True)
class Comparison:
    """All that is compared, and what came of it.

    Attributes:
        runs: by architecture, in the same order of runs for each.
        architectures: the settings of each, as in params.yaml.
        classes: their names, in the order of the labels.
        design: how the runs belong together.
        judgement: how pairs were judged.
        entries: by architecture.
        ensembles: those of single architectures, then that of all.
    """

    runs: Mapping[str, Sequence[Run]]
    architectures: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]
    design: Design
    judgement: Judgement
    entries: Mapping[str, Entry]
    ensembles: tuple[Ensemble, ...]


def compare(
    runs: Mapping[str, Sequence[Run]],
    architectures: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    design: Design,
    judgement: Judgement,
    ensembles: Sequence[EnsembleKind],
) -> Comparison:
    """Compare all architectures.

    Args:
        runs: by architecture, in the same order of runs for each.
        architectures: the settings of each, as in params.yaml.
        classes: their names, in the order of the labels.
        design: how the runs belong together.
        judgement: how pairs are judged.
        ensembles: the kinds wanted. There is none of a single network, and none over the runs of
            cross-validation, which are tested on different images.
    """
    bootstrap = Bootstrap(
        design.resampling, judgement.confidence, judgement.resamples, judgement.seed
    )
    trials = {model: [run_trial(run) for run in of_model] for model, of_model in runs.items()}
    pairs = _pairs(runs, trials, architectures, classes, design, judgement, bootstrap)
    entries = {
        model: Entry(model=model, summary=summarise(of_model, bootstrap), pair=pairs.get(model))
        for model, of_model in trials.items()
    }
    makers = {"seeds": _over_seeds, "architectures": _over_architectures}
    made = tuple(
        ensemble
        for kind, make in makers.items()
        if kind in ensembles
        for ensemble in make(runs, entries, design, bootstrap)
    )
    return Comparison(runs, architectures, tuple(classes), design, judgement, entries, made)


def confounders(candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings besides the attention in which two architectures differ.

    Of different families only the settings that both have are compared.
    """
    keys = [*candidate, *(key for key in baseline if key not in candidate)]
    if candidate.get("family") != baseline.get("family"):
        keys = [key for key in keys if key in candidate and key in baseline]
    absent = object()
    return tuple(
        key
        for key in keys
        if key not in UNDER_TEST and candidate.get(key, absent) != baseline.get(key, absent)
    )


def _pairs(
    runs: Mapping[str, Sequence[Run]],
    trials: Mapping[str, Sequence[Trial]],
    architectures: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    design: Design,
    judgement: Judgement,
    bootstrap: Bootstrap,
) -> dict[str, Pair]:
    """Return the comparison with its baseline of each architecture that has one."""
    correct = {model: [trial.correct for trial in of_model] for model, of_model in trials.items()}
    baselines = {
        model: architectures[model]["baseline"]
        for model in trials
        if architectures[model]["baseline"] is not None
    }
    gains = {
        model: paired_gains(correct[model], correct[baseline])
        for model, baseline in baselines.items()
    }
    tested = {model: design.test(of_pair) for model, of_pair in gains.items()}
    p_values = corrected_p_values(list(tested.values()), judgement.margin)
    pairs = {}
    for (model, baseline), p in zip(baselines.items(), p_values, strict=True):
        of_pair = gains[model]
        difference = paired_difference(of_pair, bootstrap)
        known = tested[model] if len(of_pair) > 1 else discordant_gain(of_pair[0])
        pairs[model] = Pair(
            model=model,
            baseline=baseline,
            difference=difference,
            mcnemar=tuple(mcnemar(of_run) for of_run in of_pair),
            p=p.no_difference,
            p_holm=p.no_difference_holm,
            p_margin=p.margin,
            p_margin_holm=p.margin_holm,
            smallest_detectable=smallest_detectable(known, judgement.confidence),
            verdict=verdict(difference, p, judgement.margin),
            confounders=confounders(architectures[model], architectures[baseline]),
            by_class=_by_class(of_pair, runs[model], classes, design, bootstrap),
        )
    return pairs


def _by_class(
    gains: Sequence[np.ndarray],
    runs: Sequence[Run],
    classes: Sequence[str],
    design: Design,
    bootstrap: Bootstrap,
) -> tuple[ClassDifference, ...]:
    """Return the difference of recall of each class."""
    images = np.bincount(design.test_labels(runs), minlength=len(classes))
    return tuple(
        ClassDifference(
            name=name,
            images=int(images[label]),
            difference=recall_difference(gains, [run.labels == label for run in runs], bootstrap),
        )
        for label, name in enumerate(classes)
    )


def _over_seeds(
    runs: Mapping[str, Sequence[Run]],
    entries: Mapping[str, Entry],
    design: Design,
    bootstrap: Bootstrap,
) -> Iterator[Ensemble]:
    """Yield for each architecture the ensemble of its runs."""
    for model, of_model in runs.items():
        if len(of_model) > 1 and design.same_images:
            summary = summarise([ensemble_trial(of_model)], bootstrap)
            yield Ensemble(
                model=model,
                members=tuple(f"{model}-{run.seed}" for run in of_model),
                summary=summary,
                gain=summary.accuracy.mean - entries[model].summary.accuracy.mean,
            )


def _over_architectures(
    runs: Mapping[str, Sequence[Run]],
    entries: Mapping[str, Entry],
    design: Design,
    bootstrap: Bootstrap,
) -> Iterator[Ensemble]:
    """Yield the ensemble of all architectures, made for each seed or fold."""
    if len(runs) > 1:
        by_run = [ensemble_trial(members) for members in zip(*runs.values(), strict=True)]
        summary = summarise(by_run, bootstrap)
        alone = [entry.summary.accuracy.mean for entry in entries.values()]
        yield Ensemble(
            model=None,
            members=tuple(runs),
            summary=summary,
            gain=summary.accuracy.mean - float(np.mean(alone)),
        )
