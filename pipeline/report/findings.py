"""What the numbers say, in sentences: costs, classes, heatmaps, attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipeline.comparison import doubts
from pipeline.comparison.compare import ClassDifference, Comparison, Pair
from pipeline.comparison.runs import Explanation
from pipeline.figures.trade_off import pareto_front
from pipeline.report import markdown
from pipeline.storage.records import CONTROLS
from pipeline.system import formats

HEATMAPS = {
    "grad_cam": "Grad-CAM",
    "layer_cam": "LayerCAM",
    "strongest_channel": "the strongest channel",
    "random": "chance",
    "centre": "the centre",
}
Outcome = Literal["better", "worse", "even"]
MOST_NAMED = 4
FEW_IMAGES = 100
# A rank correlation above which a heatmap counts as the same: half of its variance is.
SAME_MAP = math.sqrt(0.5)


def cost(pair: Pair, comparison: Comparison) -> str:
    """Return what a pair's candidate costs more than its baseline, and buys by it."""
    candidate, baseline = (comparison.entries[name].summary for name in (pair.model, pair.baseline))
    gain = pair.difference.mean
    bought = (
        "as accurate"
        if formats.points(gain) == "0.00"
        else f"{abs(gain):.2f} points {'more' if gain > 0 else 'less'} accurate"
    )
    more = [
        f"{formats.relative(candidate.parameters, baseline.parameters, less='fewer')} parameters",
        f"{formats.relative(candidate.macs, baseline.macs, less='fewer')} MACs",
    ]
    unclear = []
    for name, repeated, ours, theirs, of_candidate, of_baseline in (
        ("time for one image", "round", candidate.latency_ms, baseline.latency_ms,
         candidate.latencies, baseline.latencies),
        ("time in training", comparison.design.unit, candidate.training_seconds,
         baseline.training_seconds, candidate.training_times, baseline.training_times),
    ):  # fmt: skip
        if doubts.distinguishable(of_candidate, of_baseline):
            more.append(f"{formats.relative(ours, theirs)} {name}")
        else:
            several = len(of_candidate) > 1
            reason = f"{repeated}s differ by as much" if several else "measured only once"
            unclear.append(f"Their {name} was not told apart: {reason}.")
    told = (
        f"Against `{pair.baseline}`, `{pair.model}` needs {formats.listed(more)}, and is {bought}."
    )
    return " ".join([told, *unclear])


def on_the_front(comparison: Comparison) -> str:
    """Return which architectures no other beats in both accuracy and a cost; "" of a single one."""
    summaries = {model: entry.summary for model, entry in comparison.entries.items()}
    if len(summaries) == 1:
        return ""
    accuracies = [summary.accuracy.mean for summary in summaries.values()]
    costs: dict[str, Sequence[float]] = {
        "parameters": [summary.parameters for summary in summaries.values()],
        "MACs": [summary.macs for summary in summaries.values()],
        "latency": [summary.latency_ms for summary in summaries.values()],
    }
    by_front: dict[tuple[str, ...], list[str]] = {}
    for name, values in costs.items():
        members = pareto_front(values, accuracies)
        front = tuple(model for model, member in zip(summaries, members, strict=True) if member)
        by_front.setdefault(front, []).append(name)
    told = "; ".join(
        f"by {formats.listed(names)} {formats.listed([f'`{model}`' for model in front])}"
        for front, names in by_front.items()
    )
    return (
        "On the Pareto front of the architectures, where no other is as accurate and as cheap and "
        f"better in one of them: {told}."
    )


def exchanged(pair: Pair, comparison: Comparison) -> str:
    """Return how many images a pair's candidate gains and loses against its baseline."""
    design, runs = comparison.design, len(pair.mcnemar)
    gained = sum(of_run.gained for of_run in pair.mcnemar)
    lost = sum(of_run.lost for of_run in pair.mcnemar)
    images = len(design.test_labels(comparison.runs[pair.model]))
    if design.same_images:
        within = f" ({design.described(runs)})" if runs == 1 else f" (means over {runs} seeds)"
        digits = 1 if runs > 1 and (gained + lost) / runs < FEW_IMAGES else 0
        count = f"{gained / runs:,.{digits}f}", f"{lost / runs:,.{digits}f}"
    else:
        within = f" ({design.described(runs)})"
        count = f"{gained:,}", f"{lost:,}"
    return (
        f"Of {images:,} test images, `{pair.model}` gets {count[0]} right that `{pair.baseline}` "
        f"gets wrong, and {count[1]} wrong that `{pair.baseline}` gets right{within}."
    )


def moved_classes(pair: Pair, confidence: float) -> str:
    """Return which classes a pair's candidate helps and hurts most, and how sure that is."""
    known = [of for of in pair.by_class if not math.isnan(of.difference.mean)]
    if not known:
        return ""
    best = max(known, key=lambda of: of.difference.mean)
    worst = min(known, key=lambda of: of.difference.mean)
    moves = []
    if best.difference.mean > 0:
        moves.append(f"helped most is {_moved(best)}")
    if worst.difference.mean < 0:
        moves.append(f"hurt most is {_moved(worst)}")
    apart = sum(of.difference.low > 0 or of.difference.high < 0 for of in known)
    expected = len(known) * (1 - confidence)
    told = f"The class {', '.join(moves)}." if moves else "No class moved."
    return (
        f"{told} The {100 * confidence:g} % interval excludes 0 for {apart} of {len(known)} "
        f"classes; roughly {expected:.2g} would do so by chance if no class differed."
    )


def _moved(of: ClassDifference) -> str:
    bounds = f"{formats.points(of.difference.low)} to {formats.points(of.difference.high)}"
    return (
        f'"{markdown.escape(of.name)}" ({formats.points(of.difference.mean)} points of recall, '
        f"{bounds})"
    )


@dataclass(frozen=True)
class Area:
    """The mean area in [0, 1] under a deletion or insertion curve, with its interval.

    Attributes:
        mean: over images.
        low: of its interval.
        high: of its interval.
        against: by control the interval (low, high) of the mean difference, image by image; NaN for
            a control itself.
    """

    mean: float
    low: float
    high: float
    against: Mapping[str, tuple[float, float]]


def areas(explanation: Explanation) -> dict[tuple[str, str], Area]:
    """Return the areas of an architecture by kind of heatmap and curve."""
    return {
        (row["heatmap"], row["curve"]): Area(
            row["area"],
            row["low"],
            row["high"],
            {name: (row[f"{name}_low"], row[f"{name}_high"]) for name in CONTROLS},
        )
        for row in explanation.faithfulness.to_dict("records")
    }


def against_control(
    measured: Mapping[tuple[str, str], Area], heatmap: str, control: str
) -> tuple[Outcome, Outcome]:
    """Return whether a kind of heatmap beats a control, by deletion and by insertion."""
    low, high = measured[heatmap, "deletion"].against[control]
    fewer = _outcome(-high, -low)
    return fewer, _outcome(*measured[heatmap, "insertion"].against[control])


def faithful(explanation: Explanation) -> str:
    """Return whether an architecture's class activation maps beat the controls."""
    measured = areas(explanation)
    told = [
        f"{HEATMAPS[heatmap]} is "
        + " and ".join(_against(measured, heatmap, control) for control in CONTROLS)
        for heatmap in ("grad_cam", "layer_cam")
    ]
    return f"`{explanation.model}`: {'; '.join(told)}."


def _against(measured: Mapping[tuple[str, str], Area], heatmap: str, control: str) -> str:
    name = HEATMAPS[control]
    deletion, insertion = against_control(measured, heatmap, control)
    if deletion == insertion:
        return f"not told apart from {name}" if deletion == "even" else f"{deletion} than {name}"
    curves = {"deletion": deletion, "insertion": insertion}
    apart = [f"{outcome} by {curve}" for curve, outcome in curves.items() if outcome != "even"]
    if len(apart) == 1:
        outcome, _, curve = apart[0].partition(" ")
        return f"{outcome} than {name} {curve} alone"
    return f"{' but '.join(apart)} than {name}"


def _outcome(low: float, high: float) -> Outcome:
    """Return better or worse if the interval of a gain excludes 0."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "even"


def randomised(explanation: Explanation) -> str:
    """Return whether an architecture's heatmaps change once its weights are random."""
    table = explanation.randomisation
    everything = table[table["randomised"] == table["randomised"].iloc[-1]]
    told = []
    for heatmap in ("grad_cam", "layer_cam"):
        row = everything[everything["heatmap"] == heatmap].iloc[0]
        told.append(f"{HEATMAPS[heatmap]} {_changed(row, int(table['images'].max()))}")
    return f"`{explanation.model}`: {', '.join(told)}."


def _changed(row: pd.Series, images: int) -> str:
    """Return what becomes of a kind of heatmap, of so many images, once all weights are random."""
    correlation, low, high = row["rank_correlation"], row["low"], row["high"]
    if math.isnan(correlation):
        return "has no pattern left to compare"
    if math.isnan(low):
        return f"can't be told to change ({correlation:.2f} for one image)"
    of = "" if row["images"] == images else f", {row['images']:.0f} of {images} images have any"
    return f"{_change(low, high)} ({correlation:.2f}, {low:.2f} to {high:.2f}{of})"


def _change(low: float, high: float) -> str:
    if high < SAME_MAP:
        return "changes"
    return "stays much the same" if low > SAME_MAP else "can't be told to change"


def attention(explanation: Explanation, run: str) -> str:
    """Return whether an architecture's attention varies with the image; "" where it has none.

    Args:
        explanation: of the architecture.
        run: whose network was looked at, such as ``seed 0``.
    """
    modules = explanation.variation
    if modules is None:
        return ""
    constant = list(modules["module"][modules["constant"]])
    varying = len(modules) - len(constant)
    told = (
        f"`{explanation.model}` ({run}): the weights of {varying} of {len(modules)} attention "
        f"module{'s' if len(modules) != 1 else ''} vary with the image"
    )
    if constant:
        told += (
            f"; {_some(constant)} hardly differ{'s' if len(constant) == 1 else ''} from image to "
            f"image and {'is a scale factor' if len(constant) == 1 else 'are scale factors'}"
        )
    idle = doubts.idle(modules)
    if idle:
        factors = modules["mean"][modules["module"].isin(idle)]
        told += (
            f"; {_some(idle)} {'does' if len(idle) == 1 else 'do'} not even tell channels or "
            f"places apart, but multipl{'ies' if len(idle) == 1 else 'y'} everything by "
            f"{_range_of(factors)}"
        )
    shares = modules["share_by_class"][~modules["constant"]].dropna()
    if len(shares):
        by_chance = 100 * modules["share_by_chance"].max()
        told += (
            f"; the class explains {_range(100 * shares)} of the variation "
            f"({by_chance:.2g} % would be chance)"
        )
    return f"{told}."


def _some(modules: Sequence[str]) -> str:
    shown = [f"`{module}`" for module in modules[:MOST_NAMED]]
    rest = len(modules) - len(shown)
    return formats.listed([*shown, f"{rest} more"] if rest else shown)


def _range_of(factors: pd.Series) -> str:
    low, high = f"{factors.min():.2f}", f"{factors.max():.2f}"
    return low if low == high else f"{low} to {high}"


def _range(percentages: pd.Series) -> str:
    low, high = f"{percentages.min():.0f}", f"{percentages.max():.0f}"
    return f"{low} %" if low == high else f"{low} to {high} %"
