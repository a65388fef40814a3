"""What would make a reader doubt an answer, and when it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.reporting.comparison import Comparison, Pair

# The settings that each kind of attention reads: where they differ, so do the networks.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "channel": ("reduction",),
    "spatial": (),
    "cbam": ("reduction",),
    "self_attention": ("heads",),
}


def chance(comparison: Comparison) -> float:
    """Return the accuracy in percent of who names the most frequent class every time."""
    labels = comparison.design.test_labels(next(iter(comparison.runs.values())))
    return 100 * float(np.bincount(labels).max()) / len(labels)


def unlearnt(comparison: Comparison, models: Iterable[str]) -> list[str]:
    """Return those of `models` that are not certainly better than `chance`."""
    reached = chance(comparison)
    return [model for model in models if comparison.entries[model].summary.accuracy.low <= reached]


def same_settings(pair: Pair, architectures: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the two of a pair are one network under two names."""
    model, baseline = (architectures[name] for name in (pair.model, pair.baseline))
    attention = model.get("attention", "none")
    read = ("attention", *READ_BY[attention])
    return not pair.confounders and all(model.get(key) == baseline.get(key) for key in read)


def still_improving(comparison: Comparison) -> list[str]:
    """Return the architectures whose last epoch was the best in every run."""
    return [
        model
        for model, runs in comparison.runs.items()
        if all(run.training["best_epoch"] == run.training["epochs"] for run in runs)
    ]


def pairs(comparison: Comparison, first: str) -> list[Pair]:
    """Return all pairs of a comparison, that of the architecture `first` before the others."""
    found = [entry.pair for entry in comparison.entries.values() if entry.pair]
    return sorted(found, key=lambda pair: pair.model != first)
