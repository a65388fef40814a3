"""The head of the report's page: the verdict as a badge, and the key numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.comparison import doubts
from pipeline.comparison.compare import Comparison, Pair
from pipeline.statistics.verdict import Verdict
from pipeline.system import formats

Tone = Literal["good", "bad", "open", "void"]

TONES: dict[Verdict, Tone] = {"pays": "good", "does not pay": "bad", "undecided": "open"}

NOT_DISTINGUISHABLE = "similar"


@dataclass(frozen=True)
class Badge:
    """The verdict in a few words, and what kind of news it is."""

    text: str
    tone: Tone


@dataclass(frozen=True)
class Card:
    """A key number: what it is, its value, and a remark."""

    label: str
    value: str
    remark: str


def badge(candidate: str, comparison: Comparison, copied: int) -> Badge | None:
    """Return the verdict on the candidate; None if it has no baseline.

    Args:
        candidate: an architecture of the comparison.
        comparison: what was compared, and what came of it.
        copied: test images that also lie in training or validation.
    """
    pair = comparison.entries[candidate].pair
    if pair is None:
        return None
    if doubts.no_better_than_guessing(comparison, (candidate, pair.baseline)):
        return Badge("Nothing can be said", "void")
    if doubts.same_settings(pair, comparison.architectures):
        return Badge("Nothing is compared", "void")
    text = pair.verdict.capitalize()
    if pair.confounders or copied:
        return Badge(f"{text}, with reservations", "open")
    return Badge(text, TONES[pair.verdict])


def cards(candidate: str, comparison: Comparison) -> Sequence[Card]:
    """Return the candidate's key numbers, beside its baseline's if it has one."""
    pair = comparison.entries[candidate].pair
    return _alone(candidate, comparison) if pair is None else _against(pair, comparison)


def _against(pair: Pair, comparison: Comparison) -> Sequence[Card]:
    candidate, baseline = (comparison.entries[name].summary for name in (pair.model, pair.baseline))
    difference = pair.difference
    found = [
        Card(
            "Points of accuracy",
            formats.points(difference.mean),
            f"{100 * difference.confidence:g} % interval {formats.points(difference.low)} to "
            f"{formats.points(difference.high)}",
        ),
        Card(
            "Test accuracy",
            formats.percent(candidate.accuracy.mean),
            f"{pair.baseline}: {formats.percent(baseline.accuracy.mean)}",
        ),
        Card(
            "Parameters",
            formats.change(candidate.parameters, baseline.parameters),
            f"{formats.large(candidate.parameters)} in all",
        ),
        Card(
            "Latency",
            formats.change(candidate.latency_ms, baseline.latency_ms)
            if doubts.distinguishable(candidate.latencies, baseline.latencies)
            else NOT_DISTINGUISHABLE,
            f"{formats.latency(candidate.latency_ms)} an image",
        ),
        Card(
            "Training time",
            formats.change(candidate.training_seconds, baseline.training_seconds)
            if doubts.distinguishable(candidate.training_times, baseline.training_times)
            else NOT_DISTINGUISHABLE,
            f"{formats.duration(candidate.training_seconds)} a {comparison.design.unit}",
        ),
    ]
    if not math.isnan(pair.p_holm):
        pairs = len(doubts.pairs(comparison, pair.model))
        remark = f"corrected for {pairs} pairs" if pairs > 1 else "two-sided"
        found.append(Card("p of no difference", formats.p_value(pair.p_holm), remark))
    return found


def _alone(candidate: str, comparison: Comparison) -> Sequence[Card]:
    summary = comparison.entries[candidate].summary
    return [
        Card(
            "Test accuracy",
            formats.percent(summary.accuracy.mean),
            f"{100 * summary.accuracy.confidence:g} % interval {summary.accuracy.low:.2f} to "
            f"{summary.accuracy.high:.2f}",
        ),
        Card("Parameters", formats.large(summary.parameters), f"{summary.parameters:,}"),
        Card("MACs", formats.large(summary.macs), "for one image"),
        Card("Latency", formats.latency(summary.latency_ms), "for one image"),
        Card(
            "Training time",
            formats.duration(summary.training_seconds),
            f"a {comparison.design.unit}",
        ),
    ]
