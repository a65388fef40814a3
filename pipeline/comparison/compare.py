"""The comparison: each architecture, each pair's difference, and the ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import Summary, ensemble_trial, run_trial, summarise
from pipeline.statistics.estimates import (
    Bootstrap,
    Estimate,
    bootstrap_mean,
    paired_gains,
    recall_difference,
)
from pipeline.statistics.significance import (
    McNemar,
    PValues,
    corrected_p_values,
    discordant_gain,
    mcnemar,
    smallest_detectable,
)
from pipeline.statistics.verdict import Verdict, verdict

# The settings that each kind of attention reads: where they differ, so do the networks.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "channel": ("reduction",),
    "static": (),
    "spatial": (),
    "cbam": ("reduction",),
    "self_attention": ("heads",),
}

# What a pair may differ in: the attention under test, and the name of the baseline.
UNDER_TEST = frozenset({"attention", "baseline"}.union(*READ_BY.values()))

EnsembleKind = Literal["seeds", "architectures"]


@dataclass(frozen=True)
class ClassDifference:
    """How an architecture differs from its baseline on the images of one class.

    The interval is for that class alone: among many classes a few exclude 0 by luck.
    """

    name: str  # of the class
    images: int  # its different test images
    difference: Estimate  # of its recall; NaN where no run was tested on the class


@dataclass(frozen=True)
class Pair:
    """An architecture against its baseline."""

    model: str
    baseline: str
    difference: Estimate  # of test accuracy
    mcnemar: tuple[McNemar, ...]  # of each run
    p: PValues  # over runs and images; NaN for a single run, and where no image shows a difference
    # the true gain in percentage points that a repetition would detect with a probability of 80 %;
    # for a single run, that another test of the same two networks would
    smallest_detectable: float
    verdict: Verdict
    confounders: tuple[str, ...]  # settings besides the attention in which the two differ
    by_class: tuple[ClassDifference, ...]  # in the order of the classes


@dataclass(frozen=True)
class Entry:
    """One architecture."""

    model: str  # its name
    summary: Summary  # of its runs
    pair: Pair | None  # the comparison with its baseline, if it has one


@dataclass(frozen=True)
class Ensemble:
    """Several networks that answer together."""

    model: str | None  # the architecture whose runs these are; None for one run of each
    members: tuple[str, ...]  # names of runs such as ``cnn-0``, or of architectures
    summary: Summary  # of the one ensemble of all seeds, or of the ensembles of each run
    gain: float  # how much more accurate than its members on average, in percentage points

    @property
    def label(self) -> str:
        """Return such as ``ensemble: cnn, 3 seeds`` or ``ensemble: 4 architectures``."""
        count = len(self.members)
        members = f"{self.model}, {count} seeds" if self.model else f"{count} architectures"
        return f"ensemble: {members}"


@dataclass(frozen=True)
class Judgement:
    """How pairs are judged: see `estimates.Bootstrap` and `verdict.verdict`."""

    confidence: float
    resamples: int
    margin: float
    seed: int


@dataclass(frozen=True)
class Comparison:
    """All that is compared, and what came of it."""

    runs: Mapping[str, Sequence[Run]]  # by architecture, in the same order of runs for each
    architectures: Mapping[str, Mapping[str, Any]]  # the settings of each, as in params.yaml
    classes: tuple[str, ...]  # their names, in the order of the labels
    design: Design  # how the runs belong together
    judgement: Judgement  # how pairs were judged
    entries: Mapping[str, Entry]  # by architecture
    ensembles: tuple[Ensemble, ...]  # those of single architectures, then that of all

    @property
    def pairs(self) -> list[Pair]:
        """Return the pair of each architecture that has a baseline."""
        return [entry.pair for entry in self.entries.values() if entry.pair]


def compare(
    runs: Mapping[str, Sequence[Run]],
    architectures: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    design: Design,
    judgement: Judgement,
    ensembles: Sequence[EnsembleKind],
) -> Comparison:
    """Compare all architectures; the arguments are those of `Comparison`.

    `ensembles` are the kinds wanted. There is none of a single network, and none over the runs of
    cross-validation, which are tested on different images.
    """
    bootstrap = Bootstrap(
        design.resampling, judgement.confidence, judgement.resamples, judgement.seed
    )
    trials = {model: [run_trial(run) for run in model_runs] for model, model_runs in runs.items()}
    correct = {model: [trial.correct for trial in found] for model, found in trials.items()}
    gains = {
        model: paired_gains(correct[model], correct[baseline])
        for model in runs
        if (baseline := architectures[model]["baseline"]) is not None
    }
    tested = {model: design.test(pair_gains) for model, pair_gains in gains.items()}
    p_values = corrected_p_values(list(tested.values()), judgement.margin)

    pairs = {}
    for (model, pair_gains), p in zip(gains.items(), p_values, strict=True):
        baseline = architectures[model]["baseline"]
        difference = bootstrap_mean(pair_gains, bootstrap)
        known = tested[model] if len(pair_gains) > 1 else discordant_gain(pair_gains[0])
        images = np.bincount(design.test_labels(runs[model]), minlength=len(classes))
        by_class = (
            recall_difference(pair_gains, [run.labels == label for run in runs[model]], bootstrap)
            for label in range(len(classes))
        )
        pairs[model] = Pair(
            model=model,
            baseline=baseline,
            difference=difference,
            mcnemar=tuple(map(mcnemar, pair_gains)),
            p=p,
            smallest_detectable=smallest_detectable(known, judgement.confidence),
            verdict=verdict(difference, p, judgement.margin),
            confounders=confounders(architectures[model], architectures[baseline]),
            by_class=tuple(map(ClassDifference, classes, images.tolist(), by_class)),
        )
    entries = {
        model: Entry(model, summarise(found, bootstrap), pairs.get(model))
        for model, found in trials.items()
    }
    made = _ensembles(ensembles, runs, entries, design, bootstrap)
    return Comparison(runs, architectures, tuple(classes), design, judgement, entries, made)


def _ensembles(
    kinds: Sequence[EnsembleKind],
    runs: Mapping[str, Sequence[Run]],
    entries: Mapping[str, Entry],
    design: Design,
    bootstrap: Bootstrap,
) -> tuple[Ensemble, ...]:
    """Return the ensemble of each architecture's runs, then those of one run of each."""
    made = []
    if "seeds" in kinds and design.same_images:
        for model, model_runs in runs.items():
            if len(model_runs) > 1:
                names = tuple(f"{model}-{run.seed}" for run in model_runs)
                summary = summarise([ensemble_trial(model_runs)], bootstrap)
                gain = summary.accuracy.mean - entries[model].summary.accuracy.mean
                made.append(Ensemble(model, names, summary, gain))
    if "architectures" in kinds and len(runs) > 1:
        together = [ensemble_trial(members) for members in zip(*runs.values(), strict=True)]
        summary = summarise(together, bootstrap)
        alone = [entry.summary.accuracy.mean for entry in entries.values()]
        gain = summary.accuracy.mean - float(np.mean(alone))
        made.append(Ensemble(None, tuple(runs), summary, gain))
    return tuple(made)


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
