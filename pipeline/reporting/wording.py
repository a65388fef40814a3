"""The report's sentences and numbers, as a person would write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.statistics import Estimate
from pipeline.reporting.comparison import Comparison, Ensemble, Pair

ATTENTIONS = {
    "channel": "channel attention",
    "spatial": "spatial attention",
    "cbam": "channel and spatial attention (CBAM)",
    "self_attention": "multi-head self-attention",
}
ANSWERS = {"pays": "Yes, it pays", "does not pay": "No, it does not pay", "undecided": "Undecided"}
ABSENT = "-"


def answer(model: str, dataset: str, comparison: Comparison) -> str:
    """Return one sentence of Markdown: whether `model` pays against its baseline, and at what cost.

    For an architecture without a baseline it says the accuracy only.
    """
    pair, summary = comparison.entries[model].pair, comparison.entries[model].summary
    described = comparison.design.described(len(summary.accuracies))
    if pair is None:
        accuracy = f"{percent(summary.accuracy.mean)} {interval(summary.accuracy)}"
        images = len(comparison.design.test_labels(comparison.runs[model]))
        within = "mean of" if comparison.design.same_images else "in"
        return (
            f"**`{model}` classifies {accuracy} of {images:,} {dataset} test images correctly**, "
            f"{within} {described}; it has no baseline to compare it with."
        )
    baseline = comparison.entries[pair.baseline].summary
    also = f" The two {confounded(pair, comparison.architectures)}." if pair.confounders else ""
    return (
        f"**{question(model, pair.baseline, dataset, comparison.architectures)} "
        f"{ANSWERS[pair.verdict]}:** "
        f"{points(pair.difference.mean)} points of test accuracy against its baseline "
        f"`{pair.baseline}` {interval(pair.difference, signed=True)} with {described}, for "
        f"{relative(summary.parameters, baseline.parameters, less='fewer')} parameters and "
        f"{relative(summary.latency_ms, baseline.latency_ms)} latency.{also}"
    )


def question(
    model: str, baseline: str, dataset: str, architectures: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the question that a pair answers."""
    attention, other = (architectures[name].get("attention", "none") for name in (model, baseline))
    if attention in ("none", other):
        return f"Does `{model}` pay against `{baseline}` on {dataset}?"
    against = "" if other == "none" else f" against {ATTENTIONS[other]}"
    return f"Does {ATTENTIONS[attention]} pay{against} for `{model}` on {dataset}?"


def confounded(pair: Pair, architectures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is wrong with a pair, such as ``differ in more than attention (`hidden`)``.

    What sets two networks of a library apart is not known here, so they only may.
    """
    keys = ", ".join(f"`{key}`" for key in pair.confounders)
    both = (architectures[pair.model], architectures[pair.baseline])
    by_name = all("name" in architecture for architecture in both)
    may = "may " if by_name and set(pair.confounders) <= {"family", "name"} else ""
    return f"{may}differ in more than attention ({keys})"


def ensemble(of: Ensemble) -> str:
    """Return such as ``ensemble: `cnn`, 3 seeds`` or ``ensemble: 4 architectures``."""
    count = len(of.members)
    return (
        f"ensemble: `{of.model}`, {count} seeds" if of.model else f"ensemble: {count} architectures"
    )


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
    """Return such as ``97.31 ± 0.24``; for a single seed the mean alone."""
    return f"{mean:.2f}" if math.isnan(sd) else f"{mean:.2f} ± {sd:.2f}"


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
