"""Whether two costs differ that were measured in turns, and which of several is the lower one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr  # scipy.stats takes a second to import

ERROR = 0.05  # of claiming a difference where there is none, at most
ROUNDS = 9  # the fewest of which one may go against the others: 2 * (1 + 9) / 2^9 = 3.9 %
SCATTERED = 1.1  # a ratio known no better than within such a factor can't show one of 5 %


@dataclass(frozen=True)
class CostRatio:
    """How many times a baseline's cost a candidate's is."""

    ratio: float  # of the medians over rounds
    low: float  # of an interval that is wrong in 5 % of measurements at most
    high: float

    @property
    def differs(self) -> bool:
        """Return whether the two are distinguishable."""
        return self.low > 1 or self.high < 1

    @property
    def is_scattered(self) -> bool:
        """Return whether the rounds disagree too much to show a difference of 5 %."""
        return self.high > SCATTERED * self.low


def cost_ratio(candidate: float | np.ndarray, baseline: float | np.ndarray) -> CostRatio:
    """Compare two costs, float (R,), greater than 0, which took turns in R rounds.

    The interval is that of the sign test for the median of the rounds' ratios (Conover, Practical
    Nonparametric Statistics, 3.2): exact whatever their distribution, and one of nine rounds
    doesn't move it, however disturbed. It is widened to hold the ratio of the medians, which is
    what a table shows. Of fewer than six rounds nothing can be said: it is then without bounds.
    """
    ratio = float(np.median(candidate) / np.median(baseline))
    rounds = np.size(candidate)
    # so many rounds may go against the others
    against = int((bdtr(np.arange(rounds + 1), rounds, 0.5) < ERROR / 2).sum()) - 1
    if against < 0:
        return CostRatio(ratio, 0.0, np.inf)
    ratios = np.sort(np.divide(candidate, baseline))
    low, high = ratios[against], ratios[rounds - 1 - against]
    return CostRatio(ratio, float(min(low, ratio)), float(max(high, ratio)))


def cheaper(costs: Sequence[float | np.ndarray]) -> np.ndarray:
    """Return bool (n, n), where [i, j] is whether cost j is lower than cost i.

    A single number is known exactly, such as a number of parameters; an array, float (R,), was
    measured in R rounds, and is lower only where `cost_ratio` can tell.
    """
    found = np.zeros((len(costs), len(costs)), dtype=bool)
    for i, one in enumerate(costs):
        for j, other in enumerate(costs):
            if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
                found[i, j] = cost_ratio(other, one).high < 1
            else:
                found[i, j] = other < one
    return found
