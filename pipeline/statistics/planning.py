"""What would decide an undecided pair: more seeds, more test images, or neither."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from pipeline.statistics.gain import Components, Gain, added_variance, agreement_floor

MOST_SEEDS = 1000
MOST_IMAGES = 10_000_000
SURE = 0.95  # how sure it is that no number of seeds would do, where that is said


@dataclass(frozen=True)
class Plan:
    """How large the same experiment has to be for an interval of a certain half-width.

    That is the margin, with which an estimate at the margin excludes 0. Where the interval is as
    narrow already it is half the margin, with which no estimate is undecided.
    """

    half_width: float  # in points
    seeds: int | None  # in all, with the same test images; None if `MOST_SEEDS` don't do
    images: int | None  # in all, with the same number of seeds; None if `MOST_IMAGES` don't do
    too_few_images: bool  # whether it is sure, not only estimated, that no number of seeds does


def predicted_half_width(gain: Gain, seeds: int, images: int) -> float:
    """Return the half-width in points that the interval would have with so many of either.

    Raises:
        ValueError: if the gain has no variance components: a single seed, or cross-validation.
    """
    known = _components(gain)
    per_seed = max(known.seeds - known.residual, 0) / gain.images  # variance of a seed's true gain
    luck = max(images * per_seed + known.residual, agreement_floor(seeds) * known.residual)
    answers = seeds * images
    total = luck + seeds * max(known.images, 0) + answers * known.weight * added_variance(images)
    degrees = (seeds - 1) * (total / luck if luck else 1)
    return float(stdtrit(degrees, (1 + gain.confidence) / 2)) * math.sqrt(total / answers)


def plan(gain: Gain, margin: float) -> Plan:
    """Return what would decide a gain that is undecided with this margin in points.

    Raises:
        ValueError: as above.
    """
    half = margin
    if predicted_half_width(gain, gain.seeds, gain.images) <= margin:
        half = margin / 2

    def decides(seeds: int, images: int) -> bool:
        return predicted_half_width(gain, seeds, images) <= half

    known = _components(gain)
    surely = known.images - ndtri(SURE) * known.images_error
    return Plan(
        half_width=half,
        seeds=_smallest(lambda seeds: decides(seeds, gain.images), gain.seeds, MOST_SEEDS),
        images=_smallest(lambda images: decides(gain.seeds, images), gain.images, MOST_IMAGES),
        too_few_images=_narrowest(gain, surely) > half,
    )


def half_width_of_unlimited_seeds(gain: Gain) -> float:
    """Return the half-width in points that no number of seeds makes narrower.

    Raises:
        ValueError: as above.
    """
    return _narrowest(gain, _components(gain).images)


def _narrowest(gain: Gain, variance_of_images: float) -> float:
    added = _components(gain).weight * added_variance(gain.images)
    left = max(variance_of_images, 0) / gain.images + added
    return float(ndtri((1 + gain.confidence) / 2)) * math.sqrt(left)


def _components(gain: Gain) -> Components:
    if gain.components is None:
        raise ValueError("a plan needs several seeds, tested on the same images")
    return gain.components


def _smallest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the smallest number from `least` to `most` that is enough; None if none is."""
    if not enough(most):
        return None
    while least < most:
        middle = (least + most) // 2
        if enough(middle):
            most = middle
        else:
            least = middle + 1
    return least
