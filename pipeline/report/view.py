"""All that the report says, as values: the templates put them into words."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.comparison import doubts
from pipeline.comparison.compare import (
    ClassDifference,
    Comparison,
    Ensemble,
    EnsembleKind,
    Pair,
)
from pipeline.comparison.runs import Explanation, Run
from pipeline.comparison.summary import COSTS, ROUNDS_OF, Summary
from pipeline.data.arrays import Dataset
from pipeline.figures.trade_off import pareto_front
from pipeline.report.published_accuracies import Published, published_for
from pipeline.statistics.cost_ratio import CostRatio, cost_ratio
from pipeline.statistics.criteria import Criteria
from pipeline.statistics.looking import Looking
from pipeline.statistics.planning import Plan, plan
from pipeline.storage.records import COMPARISONS, ModuleState, Pretrained, Training
from pipeline.system.machine import BUSY
from pipeline.system.provenance import Commit

Outcome = Literal["better", "worse", "even"]
Change = Literal["no pattern", "no interval", "changes", "stays", "unclear"]
Row = Mapping[Hashable, Any]  # of a table
# A rank correlation above which a heatmap counts as the same: half of its variance is.
SAME_MAP = math.sqrt(0.5)


@dataclass(frozen=True)
class ComparedPair:
    """An architecture against its baseline."""

    result: Pair
    candidate: Summary
    baseline: Summary
    attentions: tuple[str, str]  # of the two; "none" of a library's network
    guessing: tuple[str, ...]  # those of the two that do no better than guessing
    differs: tuple[Any, Any] | None  # both values of the one setting in which the two differ
    by_name: bool  # nothing but their name in a library sets them apart
    trained_apart: tuple[str, ...]  # where or with what: in what runs of a seed differ
    plan: Plan | None  # what would decide it; None where no larger experiment like this could
    latency: CostRatio
    training_time: CostRatio
    gained: int  # images that only the candidate got right, over all runs
    lost: int  # images that only the baseline got right, over all runs
    classes: int  # those with a difference of recall
    moved: int  # those whose interval excludes 0
    helped: ClassDifference | None  # whose recall rose most, if any rose
    hurt: ClassDifference | None  # whose recall fell most, if any fell


@dataclass(frozen=True)
class Architecture:
    """An entry of `architectures`, trained and tested."""

    name: str
    summary: Summary
    pairs: tuple[ComparedPair, ...]  # with its baselines, the first one first
    looking: Looking | None  # whether its attention looks at the image; None without attention
    modules: Mapping[ModuleState, int]  # of attention, by what they do, of all runs together
    guesses: bool  # does no better than guessing
    beats_majority: bool  # is certainly better than predicting the most frequent class every time
    f1: tuple[float, ...]  # percent, by class
    published: tuple[Published, ...]

    @property
    def pair(self) -> ComparedPair | None:
        """Return the comparison with the first baseline, if there is one."""
        return self.pairs[0] if self.pairs else None


@dataclass(frozen=True)
class Front:
    """The architectures that no other beats in both accuracy and any of some costs."""

    costs: tuple[str, ...]
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """A mean over images, with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Advantage:
    """How much more faithful one heatmap is than another by one measure, image by image."""

    fill: str  # what stands in for removed pixels
    curve: str  # deletion or insertion
    difference: Interval  # of areas in [0, 1], above 0 where the first is more faithful
    p_holm: float
    outcome: Outcome  # of the first


@dataclass(frozen=True)
class HeatmapPair:
    """Two kinds of heatmap of the same network, compared by every fill and curve."""

    heatmap: str
    against: str
    advantages: tuple[Advantage, ...]


@dataclass(frozen=True)
class Randomisation:
    """The rank correlation of a kind of heatmap with itself once all weights are random."""

    change: Change
    correlation: Interval  # over random networks and images
    ends: tuple[float, float]  # the least and the greatest mean of a single random network
    maps: int  # of an image in a random network: those with a pattern to compare
    measured: int  # all of them


@dataclass(frozen=True)
class Attention:
    """Whether an architecture's attention varies with the image."""

    modules: int
    constant: tuple[str, ...]  # modules whose weights hardly vary with the image
    dead: tuple[str, ...]  # those of them that weight all channels or places alike
    factors: tuple[float, float]  # least and largest weight of the dead ones
    shares: tuple[float, float] | None  # least and largest percentage that the class explains
    chance_share: float  # percent


@dataclass(frozen=True)
class Explained:
    """What the heatmaps and the attention of an architecture show, by its first run."""

    name: str
    folder: str  # the link to its figures
    compared: bool  # it is the candidate or the candidate's baseline
    images: int  # measured
    networks: int  # with random weights
    comparisons: int  # of heatmaps, by all measures: what their intervals are corrected for
    pairs: Mapping[tuple[str, str], HeatmapPair]  # by both kinds
    areas: Mapping[tuple[str, str, str], Interval]  # by kind, curve and fill
    # the probability of the predicted class of the complete image, and by fill of the empty one
    probabilities: Mapping[str, Interval]
    randomised: Mapping[str, Randomisation]  # by kind, of the class activation maps
    attention: Attention | None


@dataclass(frozen=True)
class Provenance:
    """Where the results come from: the code, what wrote the report, and the settings file."""

    commit: Commit
    versions: Mapping[str, str]
    processor: str
    cores: int
    params: str


@dataclass(frozen=True)
class View:
    """All that the report says."""

    candidate: Architecture
    architectures: tuple[Architecture, ...]  # in the order of params.yaml
    pairs: tuple[ComparedPair, ...]  # the candidate's first
    ensembles: tuple[Ensemble, ...]
    seed_ensembles_asked: bool
    unit: str  # what a run is: "seed" or "fold"
    same_images: bool  # all runs were tested on the same images
    seeds: tuple[int, ...]  # of the runs of each architecture
    test_images: int  # different ones, over all runs
    test_groups: int | None  # that they are of, such as patients; None where no table says it
    support: tuple[int, ...]  # test images by class
    unbalanced: bool  # the largest class has more than twice those of the smallest
    majority_class_accuracy: float  # percent
    criteria: Criteria
    fronts: tuple[Front, ...]  # costs with the same front together; none of a single architecture
    explained: tuple[Explained, ...]  # candidate and baseline first
    improving: tuple[str, ...]  # architectures whose last epoch was the best in most runs
    improving_stopped: bool  # early stopping ended one of their runs
    stopped_after: tuple[int, ...]  # epochs of the runs that early stopping ended
    dataset: Dataset
    mean: tuple[float, ...]  # of each channel, of the first run, in [0, 1]
    std: tuple[float, ...]  # the same
    own_normalisation: bool  # runs differ in mean or std
    trained_on: tuple[Training, ...]  # one of each machine
    trained_with: tuple[Mapping[str, str], ...]  # versions
    pretrained: Mapping[str, Pretrained]  # by architecture, of those that started from a file
    timed_on: tuple[str, ...]  # devices of the latencies
    busy: float | None  # share of other processes in the processor time of timing, if too large
    figures: Mapping[str, str]  # links by name, without those that show nothing
    provenance: Provenance
    note: str | None  # `report.note`: what a person says of how the recipe was chosen
    same_map: float = SAME_MAP

    @property
    def asked_about(self) -> tuple[Architecture, ...]:
        """Return the candidate and its baselines."""
        names = {self.candidate.name, *(pair.result.baseline for pair in self.candidate.pairs)}
        return tuple(one for one in self.architectures if one.name in names)

    @property
    def others(self) -> tuple[Architecture, ...]:
        """Return all other architectures."""
        return tuple(one for one in self.architectures if one not in self.asked_about)


def view(
    candidate: str,
    comparison: Comparison,
    ensembles: Sequence[EnsembleKind],
    explanations: Mapping[str, Explanation],
    folders: Mapping[str, str],
    dataset: Dataset,
    figures: Mapping[str, str],
    provenance: Provenance,
    note: str | None,
) -> View:
    """Return all that the report says.

    `ensembles` are the kinds that were asked for, `explanations` those there are and `folders` the
    links to their figures, by architecture; `figures` are links to the report's own, by name.
    """
    design, runs = comparison.design, comparison.runs
    machine = attrgetter("device_name", "device", "precision", "threads")
    all_runs = [run for runs_of_one in runs.values() for run in runs_of_one]
    trainings = [run.training for run in all_runs]
    labels = design.test_labels(runs[candidate])
    support = np.bincount(labels, minlength=len(comparison.classes)).tolist()
    pairs = [_pair(pair, comparison) for pair in doubts.pairs(comparison, candidate)]
    below_majority = doubts.not_better_than_majority(comparison, runs)
    architectures = {
        name: Architecture(
            name=name,
            summary=entry.summary,
            pairs=tuple(pair for pair in pairs if pair.result.model == name),
            looking=entry.looking,
            modules=entry.modules,
            guesses=entry.at_chance,
            beats_majority=name not in below_majority,
            f1=tuple(
                100 * scores["f1"]
                for scores in design.class_scores(runs[name], comparison.classes).values()
            ),
            published=tuple(published_for(comparison.architectures[name], dataset)),
        )
        for name, entry in comparison.entries.items()
    }
    improving = doubts.still_improving(comparison)
    datasets = [dataset.for_run(run.seed) for run in runs[candidate]]
    first = architectures[candidate]
    compared = (candidate, first.pair.result.baseline if first.pair else None)
    by_interest = sorted(explanations, key=lambda name: (name not in compared, name != candidate))
    return View(
        candidate=first,
        architectures=tuple(architectures.values()),
        pairs=tuple(pairs),
        ensembles=comparison.ensembles,
        seed_ensembles_asked="seeds" in ensembles,
        unit=design.unit,
        same_images=design.same_images,
        seeds=tuple(run.seed for run in runs[candidate]),
        test_images=len(labels),
        test_groups=None
        if dataset.group is None
        else len({name for one in datasets for name in dataset.group[one.rows("test")]}),
        support=tuple(support),
        unbalanced=doubts.unbalanced(support),
        majority_class_accuracy=doubts.majority_class_accuracy(comparison),
        criteria=comparison.criteria,
        fronts=_fronts({one.name: one.summary for one in architectures.values()}),
        explained=tuple(
            explained(explanations[name], folders[name], name in compared) for name in by_interest
        ),
        improving=tuple(improving),
        improving_stopped=any(
            run.training.stopped_early for name in improving for run in runs[name]
        ),
        stopped_after=tuple(one.epochs for one in trainings if one.stopped_early),
        dataset=dataset,
        mean=tuple(datasets[0].mean.tolist()),
        std=tuple(datasets[0].std.tolist()),
        own_normalisation=any(
            not np.array_equal(getattr(datasets[0], name), getattr(other, name))
            for other in datasets
            for name in ("mean", "std")
        ),
        trained_on=tuple({machine(one): one for one in trainings}.values()),
        trained_with=tuple(
            {tuple(one.versions.items()): one.versions for one in trainings}.values()
        ),
        pretrained={
            name: found for name in runs if (found := runs[name][0].training.pretrained) is not None
        },
        timed_on=tuple(dict.fromkeys(run.timings.device_name for run in all_runs)),
        busy=others if (others := all_runs[0].timings.other_processes) > BUSY else None,
        figures=figures,
        provenance=provenance,
        note=note,
    )


def _pair(pair: Pair, comparison: Comparison) -> ComparedPair:
    both = (pair.model, pair.baseline)
    candidate, baseline = (comparison.entries[name].summary for name in both)
    settings = [comparison.architectures[name] for name in both]
    differs = None
    if len(pair.differs_in) == 1:
        values = [of_one.get(pair.differs_in[0]) for of_one in settings]
        differs = (values[0], values[1])
    plannable = pair.judgement.reason in ("too few seeds", "too few images")
    known = [one for one in pair.by_class if not math.isnan(one.difference.mean)]
    best = max(known, key=lambda one: one.difference.mean, default=None)
    worst = min(known, key=lambda one: one.difference.mean, default=None)
    return ComparedPair(
        result=pair,
        candidate=candidate,
        baseline=baseline,
        attentions=(settings[0].get("attention", "none"), settings[1].get("attention", "none")),
        guessing=tuple(name for name in both if comparison.entries[name].at_chance),
        differs=differs,
        by_name=all("name" in one for one in settings)
        and set(pair.differs_in) <= {"family", "name"},
        trained_apart=_trained_apart(*(comparison.runs[name] for name in both)),
        plan=plan(pair.gain, comparison.criteria.margin) if plannable else None,
        latency=cost_ratio(candidate.cost("latency_ms"), baseline.cost("latency_ms")),
        training_time=cost_ratio(
            candidate.cost("training_seconds"), baseline.cost("training_seconds")
        ),
        gained=sum(pair.gained),
        lost=sum(pair.lost),
        classes=len(known),
        moved=sum(one.difference.low > 0 or one.difference.high < 0 for one in known),
        helped=best if best and best.difference.mean > 0 else None,
        hurt=worst if worst and worst.difference.mean < 0 else None,
    )


def _trained_apart(runs: Sequence[Run], others: Sequence[Run]) -> tuple[str, ...]:
    """Return in what of machine and versions the runs of a seed differ, such as ``torch``."""
    found: dict[str, None] = {}
    for both in zip(runs, others, strict=True):
        one, other = (
            {
                "processor": run.training.device_name,
                "precision": run.training.precision,
                "threads": run.training.threads,
                **run.training.versions,
            }
            for run in both
        )
        # of a library that only one of them uses there is but one version
        found |= dict.fromkeys(name for name in one if name in other and one[name] != other[name])
    return tuple(found)


def _fronts(summaries: Mapping[str, Summary]) -> tuple[Front, ...]:
    if len(summaries) == 1:
        return ()
    accuracies = [summary.accuracy.mean for summary in summaries.values()]
    costs: dict[tuple[str, ...], list[str]] = {}
    for cost in COSTS:
        if cost in ROUNDS_OF and any(one.busy for one in summaries.values()):
            continue
        on_it = pareto_front([one.cost(cost) for one in summaries.values()], accuracies)
        front = tuple(name for name, member in zip(summaries, on_it, strict=True) if member)
        costs.setdefault(front, []).append(cost)
    return tuple(Front(tuple(names), front) for front, names in costs.items())


def explained(explanation: Explanation, folder: str, compared: bool) -> Explained:
    """Return what was found out about an architecture; the arguments are as in `Explained`."""
    table, modules = explanation.randomisation, explanation.variation
    all_random = table[table["randomised"] == table["randomised"].iloc[-1]]
    compared_by = explanation.faithfulness.to_dict("records")
    return Explained(
        name=explanation.model,
        folder=folder,
        compared=compared,
        images=int(explanation.areas["images"].max()),
        networks=int(table["networks"].max()),
        comparisons=len(compared_by),
        pairs={
            pair: HeatmapPair(
                *pair,
                tuple(
                    _advantage(row)
                    for row in compared_by
                    if (row["heatmap"], row["against"]) == pair
                ),
            )
            for pair in COMPARISONS
        },
        areas={
            (row["heatmap"], row["curve"], row["fill"]): _interval(row, "area")
            for row in explanation.areas.to_dict("records")
        },
        probabilities={
            row["image"]: _interval(row, "probability")
            for row in explanation.empty_images.to_dict("records")
        },
        randomised={row["heatmap"]: _randomised(row) for row in all_random.to_dict("records")},
        attention=None if modules is None else _attention(modules),
    )


def _interval(row: Row, mean: str) -> Interval:
    return Interval(row[mean], row["low"], row["high"])


def _advantage(row: Row) -> Advantage:
    difference = _interval(row, "advantage")
    outcome: Outcome = "even"
    if difference.low > 0:
        outcome = "better"
    elif difference.high < 0:
        outcome = "worse"
    return Advantage(row["fill"], row["curve"], difference, row["p_holm"], outcome)


def _randomised(row: Row) -> Randomisation:
    correlation = _interval(row, "rank_correlation")
    change: Change = "unclear"
    if math.isnan(correlation.mean):
        change = "no pattern"
    elif math.isnan(correlation.low):
        change = "no interval"
    elif correlation.high < SAME_MAP:
        change = "changes"
    elif correlation.low > SAME_MAP:
        change = "stays"
    ends, measured = (row["least"], row["greatest"]), row["networks"] * row["images"]
    return Randomisation(change, correlation, ends, row["maps"], measured)


def _attention(modules: pd.DataFrame) -> Attention:
    dead = doubts.dead(modules)
    factors = modules["mean"][modules["module"].isin(dead)]
    shares = 100 * modules["share_by_class"][~modules["constant"]].dropna()
    return Attention(
        modules=len(modules),
        constant=tuple(modules["module"][modules["constant"]]),
        dead=tuple(dead),
        factors=(factors.min(), factors.max()),
        shares=(shares.min(), shares.max()) if len(shares) else None,
        chance_share=100 * modules["share_by_chance"].max(),
    )
