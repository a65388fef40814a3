"""The comparison: each architecture, each pair's difference, and the ensembles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.evaluation.statistics import (
    Bootstrap,
    Difference,
    Verdict,
    paired_difference,
    verdict,
)
from pipeline.reporting.design import Design
from pipeline.reporting.results import Run
from pipeline.reporting.summary import Summary, of_ensemble, of_run, summarise

# What a pair may differ in: the attention under test, and the name of the baseline.
UNDER_TEST = frozenset({"attention", "reduction", "heads", "baseline"})

EnsembleKind = Literal["seeds", "architectures"]


@dataclass(frozen=True)
class Pair:
    """An architecture against its baseline.

    Attributes:
        model: the architecture.
        baseline: its baseline.
        difference: of test accuracy, in percentage points.
        verdict: whether it pays.
        confounders: settings besides the attention in which the two differ.
    """

    model: str
    baseline: str
    difference: Difference
    verdict: Verdict
    confounders: tuple[str, ...]


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


@dataclass(frozen=True)
class Judgement:
    """How pairs are judged: see `statistics.Bootstrap` and `statistics.verdict`."""

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
        design: how the runs belong together.
        judgement: how pairs were judged.
        entries: by architecture.
        ensembles: those of single architectures, then that of all.
    """

    runs: Mapping[str, Sequence[Run]]
    architectures: Mapping[str, Mapping[str, Any]]
    design: Design
    judgement: Judgement
    entries: Mapping[str, Entry]
    ensembles: tuple[Ensemble, ...]


def compare(
    runs: Mapping[str, Sequence[Run]],
    architectures: Mapping[str, Mapping[str, Any]],
    design: Design,
    judgement: Judgement,
    ensembles: Sequence[EnsembleKind],
) -> Comparison:
    """Compare all architectures.

    Args:
        runs: by architecture, in the same order of runs for each.
        architectures: the settings of each, as in params.yaml.
        design: how the runs belong together.
        judgement: how pairs are judged.
        ensembles: the kinds wanted. There is none of a single network, and none over the runs of
            cross-validation, which are tested on different images.
    """
    bootstrap = Bootstrap(
        design.resampling, judgement.confidence, judgement.resamples, judgement.seed
    )
    trials = {model: [of_run(run) for run in of_model] for model, of_model in runs.items()}
    correct = {model: [trial.correct for trial in of_model] for model, of_model in trials.items()}
    entries = {
        model: Entry(
            model=model,
            summary=summarise(of_model, bootstrap),
            pair=_pair(model, correct, architectures, bootstrap, judgement.margin),
        )
        for model, of_model in trials.items()
    }
    makers = {"seeds": _over_seeds, "architectures": _over_architectures}
    made = tuple(
        ensemble
        for kind, make in makers.items()
        if kind in ensembles
        for ensemble in make(runs, entries, design, bootstrap)
    )
    return Comparison(runs, architectures, design, judgement, entries, made)


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


def _pair(
    model: str,
    correct: Mapping[str, Sequence[np.ndarray]],
    architectures: Mapping[str, Mapping[str, Any]],
    bootstrap: Bootstrap,
    margin: float,
) -> Pair | None:
    baseline = architectures[model]["baseline"]
    if baseline is None:
        return None
    difference = paired_difference(correct[model], correct[baseline], bootstrap)
    return Pair(
        model=model,
        baseline=baseline,
        difference=difference,
        verdict=verdict(difference, margin),
        confounders=confounders(architectures[model], architectures[baseline]),
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
            summary = summarise([of_ensemble(of_model)], bootstrap)
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
        by_run = [of_ensemble(members) for members in zip(*runs.values(), strict=True)]
        summary = summarise(by_run, bootstrap)
        alone = [entry.summary.accuracy.mean for entry in entries.values()]
        yield Ensemble(
            model=None,
            members=tuple(runs),
            summary=summary,
            gain=summary.accuracy.mean - float(np.mean(alone)),
        )
