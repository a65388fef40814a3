"""The report's sentences and numbers, as a person would write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.statistics import Estimate
from pipeline.reporting.comparison import Entry

ATTENTIONS = {"channel": "channel attention"}
ANSWERS = {"pays": "Yes, it pays", "does not pay": "No, it does not pay", "undecided": "Undecided"}
ABSENT = "-"


def answer(
    model: str,
    dataset: str,
    entries: Mapping[str, Entry],
    architectures: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return one sentence of Markdown: whether `model` pays against its baseline, and at what cost.

    For an architecture without a baseline it says the accuracy only.
    """
    entry = entries[model]
    if entry.pair is None:
        accuracy = f"{percent(entry.accuracy.mean)} {interval(entry.accuracy)}"
        return (
            f"**`{model}` classifies {accuracy} of {entry.accuracy.images:,} {dataset} test "
            f"images correctly**, mean of {seeds(entry)}; it has no baseline to compare it with."
        )
    baseline = entries[entry.pair.baseline]
    difference = entry.pair.difference
    keys = ", ".join(f"`{key}`" for key in entry.pair.confounders)
    also = f" The two differ in more than attention ({keys})." if keys else ""
    return (
        f"**{question(model, entry.pair.baseline, dataset, architectures)} "
        f"{ANSWERS[entry.pair.verdict]}:** "
        f"{points(difference.mean)} points of test accuracy against its baseline "
        f"`{baseline.model}` {interval(difference, signed=True)} with {seeds(entry)}, for "
        f"{relative(entry.parameters, baseline.parameters, less='fewer')} parameters and "
        f"{relative(entry.latency_ms, baseline.latency_ms)} latency.{also}"
    )


def question(
    model: str, baseline: str, dataset: str, architectures: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the question that a pair answers."""
    attention = architectures[model].get("attention", "none")
    if attention in ("none", architectures[baseline].get("attention", "none")):
        return f"Does `{model}` pay against `{baseline}` on {dataset}?"
    name = ATTENTIONS.get(attention, f"{attention} attention")
    return f"Does {name} pay for `{model}` on {dataset}?"


def seeds(entry: Entry) -> str:
    """Return such as ``3 seeds``."""
    count = len(entry.accuracies)
    return "1 seed" if count == 1 else f"{count} seeds"


def percent(value: float) -> str:
    """Return such as ``97.31 %``."""
    return f"{value:.2f} %"


def points(value: float) -> str:
    """Return a difference in percentage points, with its sign; none for zero."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def interval(estimate: Estimate, signed: bool = False) -> str:
    """Return such as ``(95 % interval -0.31 to +0.72)``."""
    write = points if signed else "{:.2f}".format
    low, high = write(estimate.low), write(estimate.high)
    return f"({100 * estimate.confidence:g} % interval {low} to {high})"


def spread(mean: float, sd: float) -> str:
    """Return such as ``97.31 ± 0.24``; a dash for the spread of a single seed."""
    return f"{mean:.2f} ± {ABSENT if math.isnan(sd) else format(sd, '.2f')}"


def relative(value: float, reference: float, less: str = "less") -> str:
    """Return such as ``0.2 % more``: how `value` compares to `reference`."""
    change = 100 * (value / reference - 1)
    digits = 1 if abs(change) < 9.95 else 0
    text = f"{abs(change):.{digits}f}"
    if float(text) == 0:
        return "no more"
    return f"{text} % {'more' if change > 0 else less}"


def large(value: float) -> str:
    """Return a count with three digits and a unit of thousands, such as ``1.15 M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Return a time such as ``0.8 s``, ``47 s``, ``12.5 min`` or ``3.1 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
