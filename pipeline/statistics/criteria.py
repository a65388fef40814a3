"""By what a comparison is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.statistics.estimates import balancing_weights

ACCURACY_NAMES = {"accuracy": "test accuracy", "balanced_accuracy": "balanced test accuracy"}


@dataclass(frozen=True)
class Criteria:
    """How pairs are judged."""

    confidence: float  # of the intervals, before correction for the number of pairs
    margin: float  # the smallest gain in points that would be worth its price
    judged_by: Literal["accuracy", "balanced_accuracy"] = "accuracy"

    @property
    def accuracy_name(self) -> str:
        """Return how the accuracy that counts is called."""
        return ACCURACY_NAMES[self.judged_by]

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """Return what each test image counts, float (N,), from the true classes, int (N,)."""
        if self.judged_by == "accuracy":
            return np.ones(len(labels))
        return balancing_weights(labels)
