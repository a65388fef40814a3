"""Whether attention looks at the image: what is lost where it no longer can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv, stdtrit  # scipy.stats takes a second to import

from pipeline.statistics.gain import POINTS, added_variance

Looks = Literal["yes", "no", "unknown"]

CONFIDENCE = 0.95
# Of the answers: attention that changes fewer for certain might as well be a constant.
FEW_CHANGED = 0.01


@dataclass(frozen=True)
class Intervention:
    """What becomes of trained networks whose attention weights are replaced."""

    loss: float  # of test accuracy, in points; below 0 where accuracy rose
    low: float  # end of its interval of 95 %, over images, for these very networks
    high: float
    changed: int  # answers, of all networks together
    answers: int
    most_changed: float  # upper limit of 95 % of the share of answers that change, in [0, 1]


@dataclass(frozen=True)
class Looking:
    """Whether the attention of an architecture's networks looks at the image."""

    looks: Looks
    frozen: Intervention  # each module's weights are their mean over the validation images
    shuffled: Intervention  # they are those of another image
    uniform: bool  # whether both are something else: attention to all positions alike

    @property
    def frozen_costs_more(self) -> bool:
        """Tell which of the two is to be named where there is room for one."""
        return self.frozen.loss >= self.shuffled.loss


def intervention(
    intact: Sequence[np.ndarray],
    replaced: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    same_images: bool,
    weights: Sequence[np.ndarray] | None = None,
) -> Intervention:
    """Return what an intervention costs.

    The networks are taken as they are and the images as a sample: the question is about these
    networks. Two images more, one gained and one lost, count in the variance, as for a gain.

    Args:
        intact: int (N_r,) for each run, its answers.
        replaced: the same with other attention weights.
        labels: the same, the true classes.
        same_images: whether all runs were tested on the same images; else they are folds.
        weights: float (N_r,) for each run, as in `gain.folds_gain`.
    """
    if weights is None:
        weights = [np.ones(len(run_labels)) for run_labels in labels]
    runs = list(zip(intact, replaced, labels, weights, strict=True))
    losses = [
        counts * ((one == true).astype(int) - (other == true)) for one, other, true, counts in runs
    ]
    changes = [one != other for one, other, *_ in runs]
    # an image counts once, however many networks were tested on it
    together = (lambda of: np.mean(of, axis=0)) if same_images else np.concatenate
    by_image, changed, counted = together(losses), together(changes), together(weights)
    images = len(by_image)
    loss = POINTS * float(by_image.mean())
    variance = POINTS**2 * by_image.var(ddof=1) / images
    variance += float((counted**2).mean()) * added_variance(images)
    half = float(stdtrit(images - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    most = math.ceil(changed.sum())
    # the upper end of Clopper and Pearson's interval
    limit = betaincinv(most + 1, images - most, CONFIDENCE) if most < images else 1
    return Intervention(
        loss=loss,
        low=loss - half,
        high=loss + half,
        changed=int(sum(map(np.sum, changes))),
        answers=sum(map(len, changes)),
        most_changed=float(limit),
    )


def looking(
    frozen: Intervention, shuffled: Intervention, margin: float, attention: str | None = None
) -> Looking:
    """Return whether the attention, the kind that the settings name, looks at the image.

    - *yes*: both interventions certainly cost accuracy. Not of self-attention, which attends to all
      positions alike in both: a pattern that is the same for all images would be missed as much.
    - *no*: both certainly change fewer than 1 % of the answers, or cost less than `margin` points:
      constants would do as well.
    - *unknown*: everything else.
    """
    both, uniform = (frozen, shuffled), attention == "self_attention"
    looks: Looks = "unknown"
    if all(one.low > 0 for one in both):
        looks = "unknown" if uniform else "yes"
    elif all(one.most_changed < FEW_CHANGED or one.high < margin for one in both):
        looks = "no"
    return Looking(looks, frozen, shuffled, uniform)
