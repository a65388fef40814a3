"""Holm's correction of several tests for their number, Scand. J. Statistics 6 (1979) 65-70."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """How Holm's procedure tests one of several hypotheses."""

    p: float  # corrected; NaN of one that can't be tested
    # The test's own level. An interval at confidence 1 - error excludes what the hypothesis says
    # exactly where `p` is below the level of all tests together.
    error: float


def holm(p_values: Sequence[float], error: float) -> list[Step]:
    """Return how each of several hypotheses is tested, in the order of `p_values`.

    One that can't be tested, whose p is NaN, counts as one that was not rejected. From the first
    that is not rejected on, all share its level.

    Args:
        p_values: in [0, 1] or NaN, each of a test for itself.
        error: the probability that any true hypothesis is rejected.
    """
    count = len(p_values)
    tested = [1.0 if math.isnan(p) else p for p in p_values]
    steps = [Step(math.nan, error)] * count
    left, corrected, rejecting = count, 0.0, True
    for place, which in enumerate(sorted(range(count), key=tested.__getitem__)):
        own_error = error / left
        corrected = max(corrected, min((count - place) * tested[which], 1.0))
        rejecting = rejecting and tested[which] < own_error
        left -= rejecting
        steps[which] = Step(math.nan if math.isnan(p_values[which]) else corrected, own_error)
    return steps
