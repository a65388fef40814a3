"""Whether attention pays: the rule by which interval and tests are judged."""

from __future__ import annotations

from typing import Literal

from pipeline.statistics.estimates import Estimate
from pipeline.statistics.significance import PValues

Verdict = Literal["pays", "does not pay", "undecided"]


def verdict(difference: Estimate, p: PValues, margin: float) -> Verdict:
    """Say whether a difference is worth having.

    - It *pays* if the whole interval lies above 0 and the corrected p of no difference is below
      1 - confidence.
    - Otherwise it *does not pay* if the whole interval lies below `margin` and the corrected p of a
      gain as large as that is below (1 - confidence) / 2. A significant loss is such a case.
    - Otherwise the data leave it *undecided*. A single run always does, as it doesn't show how much
      runs differ, and so do networks that never disagree: their interval has no width, however few
      the images. In both cases the p values are NaN.

    The interval has two ends, each wrong with a probability of (1 - confidence) / 2. The one-sided
    p is held to that level, the two-sided one to twice as much: each test mirrors one end. `margin`
    is the smallest improvement in percentage points that would matter.
    """
    error = 1 - difference.confidence
    if difference.low > 0 and p.no_difference_holm < error:
        return "pays"
    if difference.high < margin and p.margin_holm < error / 2:
        return "does not pay"
    return "undecided"
