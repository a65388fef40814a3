"""The comparison: each architecture, each pair's difference, and the ensembles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.comparison.design import Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import (
    Summary,
    ensemble_trial,
    run_trial,
    summarise,
)
from pipeline.settings.pairs import differing, is_confounded
from pipeline.settings.schema import named
from pipeline.statistics.criteria import Criteria
from pipeline.statistics.estimates import Estimate, as_estimate
from pipeline.statistics.gain import Gain, corrected
from pipeline.statistics.looking import Looking, intervention, looking
from pipeline.statistics.outcome import Judgement, is_at_chance, judge
from pipeline.storage.records import ModuleState

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
    gain: Gain  # in the accuracy that counts, corrected for the number of pairs
    judgement: Judgement  # read off the gain's interval
    gained: tuple[int, ...]  # by run: the images that only the candidate got right
    lost: tuple[int, ...]  # by run: those that only the baseline got right
    differs_in: tuple[str, ...]  # settings in which the two differ, see `differing`
    by_class: tuple[ClassDifference, ...]  # in the order of the classes

    @property
    def confounded(self) -> bool:
        """Return whether the two differ in more than one thing, or may do so."""
        return is_confounded(self.differs_in)


@dataclass(frozen=True)
class Entry:
    """One architecture."""

    model: str  # its name
    summary: Summary  # of its runs
    at_chance: bool  # its runs can't be distinguished from guessing
    pairs: tuple[Pair, ...]  # the comparisons with its baselines, the first one first
    looking: Looking | None  # whether its attention looks at the image; None without attention
    modules: Mapping[ModuleState, int]  # of attention, by what they do, of all runs together

    @property
    def pair(self) -> Pair | None:
        """Return the comparison with its first baseline, if it has one."""
        return self.pairs[0] if self.pairs else None


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
class Comparison:
    """All that is compared, and what came of it."""

    runs: Mapping[str, Sequence[Run]]  # by architecture, in the same order of runs for each
    architectures: Mapping[str, Mapping[str, Any]]  # the settings of each, as in params.yaml
    classes: tuple[str, ...]  # their names, in the order of the labels
    design: Design  # how the runs belong together
    criteria: Criteria  # how pairs were judged
    entries: Mapping[str, Entry]  # by architecture
    ensembles: tuple[Ensemble, ...]  # those of single architectures, then that of all

    @property
    def pairs(self) -> list[Pair]:
        """Return the pairs of all architectures."""
        return [pair for entry in self.entries.values() for pair in entry.pairs]


def compare(
    runs: Mapping[str, Sequence[Run]],
    architectures: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    design: Design,
    criteria: Criteria,
    ensembles: Sequence[EnsembleKind],
) -> Comparison:
    """Compare all architectures; the arguments are those of `Comparison`.

    `ensembles` are the kinds wanted. There is none of a single network, and none over the runs of
    cross-validation, which are tested on different images.
    """
    confidence = criteria.confidence
    trials = {model: [run_trial(run) for run in model_runs] for model, model_runs in runs.items()}
    correct = {model: [trial.correct for trial in found] for model, found in trials.items()}
    summaries = {
        model: summarise(found, design.same_images, criteria) for model, found in trials.items()
    }
    labels = [run.labels for run in next(iter(runs.values()))]
    weights = [criteria.weights(run_labels) for run_labels in labels]
    at_chance = {model: _at_chance(found, labels, design) for model, found in correct.items()}
    compared = [
        (model, baseline) for model in runs for baseline in named(architectures[model]["baseline"])
    ]
    gains = corrected(
        [design.gain(correct[one], correct[other], weights, confidence) for one, other in compared]
    )
    pairs = []
    for (model, baseline), gain in zip(compared, gains, strict=True):
        differs_in = differing(architectures[model], architectures[baseline])
        judgement = judge(
            gain,
            criteria.margin,
            summaries[baseline].accuracy.mean,
            at_chance[model] or at_chance[baseline],
        )
        if not differs_in:
            judgement = Judgement("undecided", "the same settings")
        both = list(zip(correct[model], correct[baseline], strict=True))
        found = Pair(
            model=model,
            baseline=baseline,
            gain=gain,
            judgement=judgement,
            gained=tuple(int((ours & ~theirs).sum()) for ours, theirs in both),
            lost=tuple(int((theirs & ~ours).sum()) for ours, theirs in both),
            differs_in=differs_in,
            by_class=tuple(
                _class_difference(name, label, both, labels, design, confidence)
                for label, name in enumerate(classes)
            ),
        )
        pairs.append(found)
    entries = {
        model: Entry(
            model,
            summaries[model],
            at_chance[model],
            tuple(pair for pair in pairs if pair.model == model),
            _looking(model_runs, architectures[model], design, criteria),
            Counter(state for run in model_runs for state in run.metrics.modules.values()),
        )
        for model, model_runs in runs.items()
    }
    made = _ensembles(ensembles, runs, entries, design, criteria)
    return Comparison(runs, architectures, tuple(classes), design, criteria, entries, made)


def _at_chance(correct: Sequence[np.ndarray], labels: Sequence[np.ndarray], design: Design) -> bool:
    if design.same_images:
        return is_at_chance(np.stack(correct), labels[0])
    return is_at_chance(np.concatenate(correct)[None], np.concatenate(labels))


def _looking(
    runs: Sequence[Run], architecture: Mapping[str, Any], design: Design, criteria: Criteria
) -> Looking | None:
    if not all(run.interventions for run in runs):
        return None
    labels = [run.labels for run in runs]
    weights = [criteria.weights(run_labels) for run_labels in labels]
    intact, *replaced = (
        [run.interventions[name] for run in runs] for name in ("intact", "frozen", "shuffled")
    )
    frozen, shuffled = (
        intervention(intact, answers, labels, design.same_images, weights) for answers in replaced
    )
    return looking(frozen, shuffled, criteria.margin, architecture.get("attention"))


def _class_difference(
    name: str,
    label: int,
    both: Sequence[tuple[np.ndarray, np.ndarray]],
    labels: Sequence[np.ndarray],
    design: Design,
    confidence: float,
) -> ClassDifference:
    """Return the difference of one class's recall, from that class's images alone."""
    members = [run_labels == label for run_labels in labels]
    chosen = [
        (ours[member], theirs[member])
        for (ours, theirs), member in zip(both, members, strict=True)
        if member.any()
    ]
    images = int(members[0].sum() if design.same_images else sum(map(np.sum, members)))
    if not chosen:
        nan = math.nan
        return ClassDifference(name, images, Estimate(nan, nan, nan, confidence))
    ours, theirs = zip(*chosen, strict=True)
    gain = design.gain(ours, theirs, [np.ones(len(right)) for right in ours], confidence)
    return ClassDifference(name, images, as_estimate(gain))


def _ensembles(
    kinds: Sequence[EnsembleKind],
    runs: Mapping[str, Sequence[Run]],
    entries: Mapping[str, Entry],
    design: Design,
    criteria: Criteria,
) -> tuple[Ensemble, ...]:
    """Return the ensemble of each architecture's runs, then those of one run of each."""
    made = []
    if "seeds" in kinds and design.same_images:
        for model, model_runs in runs.items():
            if len(model_runs) > 1:
                names = tuple(f"{model}-{run.seed}" for run in model_runs)
                summary = summarise([ensemble_trial(model_runs)], True, criteria)
                gain = summary.accuracy.mean - entries[model].summary.accuracy.mean
                made.append(Ensemble(model, names, summary, gain))
    if "architectures" in kinds and len(runs) > 1:
        together = [ensemble_trial(members) for members in zip(*runs.values(), strict=True)]
        summary = summarise(together, design.same_images, criteria)
        alone = [entry.summary.accuracy.mean for entry in entries.values()]
        gain = summary.accuracy.mean - float(np.mean(alone))
        made.append(Ensemble(None, tuple(runs), summary, gain))
    return tuple(made)
