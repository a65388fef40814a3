"""The verdict on a pair, read off the interval that is printed, and why it is undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from pipeline.statistics.gain import POINTS, Gain
from pipeline.statistics.planning import half_width_of_unlimited_seeds, plan

Outcome = Literal["pays", "better", "does not pay", "worse", "undecided"]
Reason = Literal[
    "a single seed",
    "networks at chance",
    "the same settings",
    "a saturated test set",
    "too few images",
    "too few seeds",
    "cross-validation has little power",
]


# Of the intervals by which networks are better than guessing, whatever that of the gain: a report
# and `compare` at the confidence of one of its pairs have to agree.
SURE_OF_CHANCE = 0.95


@dataclass(frozen=True)
class Judgement:
    """What a comparison came to."""

    outcome: Outcome
    reason: Reason | None  # why it is undecided; None where it is decided


def read_off(gain: Gain, margin: float) -> Outcome:
    """Return what an interval says; of NaN, *undecided*.

    - *pays*: the whole interval lies at or above `margin`, the smallest gain in points, above 0,
      that would be worth its price.
    - *better*: the whole interval lies above 0, the margin inside.
    - *worse*: the whole interval lies below 0.
    - *does not pay*: it lies below the margin.
    """
    if gain.low >= margin:
        return "pays"
    if gain.high < 0:
        return "worse"
    if gain.high < margin:
        return "does not pay"
    return "better" if gain.low > 0 else "undecided"


def judge(gain: Gain, margin: float, baseline_accuracy: float, at_chance: bool) -> Judgement:
    """Return the verdict on a pair, with the reason where it is undecided.

    Args:
        gain: after the correction for the number of pairs.
        margin: in points.
        baseline_accuracy: in percent, the mean over seeds.
        at_chance: whether one of the two networks is: whatever the interval, that is undecided.
    """
    if at_chance:
        return Judgement("undecided", "networks at chance")
    outcome = read_off(gain, margin)
    if outcome != "undecided":
        return Judgement(outcome, None)
    if math.isnan(gain.standard_error):
        return Judgement(outcome, "a single seed" if gain.seeds == 1 else "too few images")
    # a candidate without a mistake, of however many seeds, would be undecided, too
    narrowest = half_width_of_unlimited_seeds(gain) if gain.components else 0
    if POINTS - baseline_accuracy <= max(narrowest, margin):
        return Judgement(outcome, "a saturated test set")
    if gain.components is None:
        return Judgement(outcome, "cross-validation has little power")
    more_seeds_do = plan(gain, margin).seeds is not None
    return Judgement(outcome, "too few seeds" if more_seeds_do else "too few images")


def is_at_chance(correct: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether networks can't be distinguished from guessing.

    They are not certainly better than the most frequent class every time, nor is their mean recall
    certainly better than 1 / K: where one class is much more frequent than the others, good
    networks too may do no better than predicting it every time.

    Args:
        correct: bool (R, N), whether the network of each seed got each test image right.
        labels: int (N,), the true classes.
    """
    quantile = ndtri((1 + SURE_OF_CHANCE) / 2)
    by_image = correct.mean(axis=0)
    classes, member = np.unique(labels, return_inverse=True)
    images = np.bincount(member)
    recalls = np.bincount(member, by_image) / images
    variances = np.bincount(member, by_image**2) / images - recalls**2
    majority = images.max() / len(labels)
    error = np.sqrt(by_image.var() / len(labels))
    recall_error = np.sqrt((variances.clip(min=0) / images).sum()) / len(classes)
    above_majority = by_image.mean() - quantile * error > majority
    above_uniform = recalls.mean() - quantile * recall_error > 1 / len(classes)
    return not (above_majority or above_uniform)
