"""The report's sentences and numbers, as a person would write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.comparison import doubts
from pipeline.comparison.compare import Comparison, Ensemble, Pair
from pipeline.comparison.design import Design
from pipeline.comparison.summary import Summary
from pipeline.report import markdown
from pipeline.statistics.estimates import Estimate
from pipeline.system import formats

ATTENTIONS = {
    "channel": "channel attention",
    "spatial": "spatial attention",
    "cbam": "channel and spatial attention (CBAM)",
    "self_attention": "multi-head self-attention",
}
ANSWERS = {"pays": "Yes, it pays", "does not pay": "No, it does not pay", "undecided": "Undecided"}


def answer(model: str, dataset: str, comparison: Comparison, copied: int) -> str:
    """Return a paragraph of Markdown: whether `model` pays against its baseline, and its cost.

    What overturns the answer stands in it. For an architecture without a baseline it says the
    accuracy only.

    Args:
        model: an architecture of the comparison.
        dataset: what the images are called, as Markdown.
        comparison: what was compared, and what came of it.
        copied: test images that also lie in training or validation.
    """
    entry = comparison.entries[model]
    if entry.pair is None:
        return _accuracy_alone(model, dataset, comparison, copied)
    asked = question(entry.pair, dataset, comparison.architectures)
    unlearnt = doubts.no_better_than_guessing(comparison, (model, entry.pair.baseline))
    if unlearnt:
        who = " and ".join(f"`{name}`" for name in unlearnt)
        have = "has" if len(unlearnt) == 1 else "have"
        return f"**{asked} Nothing can be said: {who} {have} learnt little or nothing.**"
    reservations = _reservations(entry.pair, comparison, copied)
    but = f"; but {', and '.join(reservations)}" if reservations else ""
    return (
        f"**{asked} {_verdict(entry.pair, comparison)}{but}:** "
        f"{_difference_and_cost(entry.pair, comparison)}{_what_would_decide(entry.pair)}"
    )


def _accuracy_alone(model: str, dataset: str, comparison: Comparison, copied: int) -> str:
    summary, design = comparison.entries[model].summary, comparison.design
    images = design.test_labels(comparison.runs[model])
    within = "mean of" if design.same_images else "in"
    but = f"; but {copies(copied, len(images), design)}" if copied else ""
    unlearnt = (
        "; it has learnt little or nothing"
        if doubts.no_better_than_guessing(comparison, [model])
        else ""
    )
    return (
        f"**`{model}` classifies {formats.percent(summary.accuracy.mean)} "
        f"{interval(summary.accuracy)} of the {len(images):,} test images of {dataset} "
        f"correctly**, {within} {design.described(len(summary.accuracies))}{unlearnt}{but}. "
        "It has no baseline to compare it with."
    )


def _verdict(pair: Pair, comparison: Comparison) -> str:
    """Return the verdict, with its reason where the numbers had no say in it."""
    if doubts.same_settings(pair, comparison.architectures):
        return "Undecided, for the two have the same settings and are the same network"
    if pair.difference.runs == 1:
        return f"Undecided, as it always is with a single {comparison.design.unit}"
    if pair.verdict == "does not pay":
        gain = formats.points(comparison.judgement.margin)
        return f"{ANSWERS[pair.verdict]}; a gain of {gain} points is excluded"
    return ANSWERS[pair.verdict]


def _what_would_decide(pair: Pair) -> str:
    """Return what an undecided pair could have shown; nothing where that says nothing."""
    smallest = pair.smallest_detectable
    if pair.verdict != "undecided" or pair.difference.runs == 1 or not smallest < 100:
        return ""
    return (
        f" So many seeds and images find a true difference of {smallest:.2f} points four times out "
        "of five; more of either find smaller ones."
    )


def _reservations(pair: Pair, comparison: Comparison, copied: int) -> list[str]:
    images = len(comparison.design.test_labels(comparison.runs[pair.model]))
    return [
        *([f"the two {confounded(pair, comparison.architectures)}"] if pair.confounders else []),
        *([copies(copied, images, comparison.design)] if copied else []),
    ]


def _difference_and_cost(pair: Pair, comparison: Comparison) -> str:
    candidate, baseline = (comparison.entries[name].summary for name in (pair.model, pair.baseline))
    described = comparison.design.described(len(candidate.accuracies))
    return (
        f"{formats.points(pair.difference.mean)} points of test accuracy against its baseline "
        f"`{pair.baseline}` {interval(pair.difference, signed=True)} with {described}, for "
        f"{formats.relative(candidate.parameters, baseline.parameters, less='fewer')} parameters "
        f"and {_latency(candidate, baseline)}."
    )


def _latency(candidate: Summary, baseline: Summary) -> str:
    if doubts.distinguishable(candidate.latencies, baseline.latencies):
        return f"{formats.relative(candidate.latency_ms, baseline.latency_ms)} latency"
    return "a latency that was not told apart"


def question(pair: Pair, dataset: str, architectures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the question that a pair answers: about attention, if nothing else differs."""
    attention, other = (
        architectures[name].get("attention", "none") for name in (pair.model, pair.baseline)
    )
    if pair.confounders or attention in ("none", other):
        return f"Does `{pair.model}` pay against `{pair.baseline}` on {dataset}?"
    against = "" if other == "none" else f" against {ATTENTIONS[other]}"
    return f"Does {ATTENTIONS[attention]} pay{against} for `{pair.model}` on {dataset}?"


def images_of(name: str) -> str:
    """Return what the images of a source are called, as Markdown."""
    return "your images" if name == "image_folder" else markdown.escape(name)


def copies(copied: int, images: int, design: Design) -> str:
    """Return such as ``3 of 40 test images also lie in training or validation``."""
    elsewhere = "in training or validation" if design.same_images else "in another fold"
    return (
        f"{copied:,} of {images:,} test images also {'lies' if copied == 1 else 'lie'} {elsewhere}"
    )


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


def interval(estimate: Estimate, signed: bool = False) -> str:
    """Return such as ``(95 % interval -0.31 to +0.72)``."""
    write = formats.points if signed else "{:.2f}".format
    low, high = write(estimate.low), write(estimate.high)
    return f"({100 * estimate.confidence:g} % interval {low} to {high})"
