"""How much more accurate a candidate is than its baseline: one estimate, one interval, one test.

Seeds and test images are both samples, so both are random factors: a two-way layout without
replication, as for readers and cases in radiology (Dorfman, Berbaum and Metz, Investigative
Radiology 27, 1992; Hillis, Statistics in Medicine 26, 2007). docs/statistics.md has the formulas,
what differs from theirs and why, and the simulation that holds the error rates.

No variance here can collapse because a few seeds happen to agree, or a few images to be right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

POINTS = 100  # in an accuracy of 1
# Few seeds often agree by luck: see `agreement_floor`.
FLOOR_FOR_FEW_SEEDS = 4
# Images of which one is gained and one is lost, added to the variance alone: without them a test
# set on which two networks never differ would prove them equal. Bonett and Price, Journal of
# Educational and Behavioral Statistics 37 (2012) 479-488.
ADDED_IMAGES = 2


@dataclass(frozen=True)
class MeanSquares:
    """The mean squares of a two-way layout without replication."""

    seeds: float  # between rows, R - 1 degrees of freedom
    images: float  # between columns, N - 1
    residual: float  # (R - 1) (N - 1)


@dataclass(frozen=True)
class Components:
    """What the variance of a gain is made of, in squared points: what a plan is computed from."""

    seeds: float  # between seeds, as a mean square: N times the variance of a seed's gain
    residual: float  # of one answer of one seed, the mean square
    images: float  # of the gain between images, the seeds' mean; may be below 0 by chance
    images_error: float  # the standard error of `images`
    weight: float  # the mean square of what an image counts: 1 where all count the same


@dataclass(frozen=True)
class Gain:
    """A gain in test accuracy, in percentage points, with its interval and test.

    Of a single seed the interval, p and all that says how sure it is are NaN.
    """

    gain: float  # mean over seeds and images
    low: float  # end of the interval
    high: float
    p: float  # two-sided, of no true gain
    p_corrected: float  # the same, corrected for the number of pairs
    degrees_of_freedom: float
    standard_error: float
    sd_between_seeds: float  # sample standard deviation of `gain_by_seed`
    gain_by_seed: tuple[float, ...]
    seeds: int  # how many; with cross-validation the folds
    images: int  # how many different test images
    confidence: float  # of the interval, after correction for the number of pairs
    components: Components | None  # None of a single seed, and with cross-validation


def mean_squares(values: np.ndarray) -> MeanSquares:
    """Return the mean squares of float (R, N), a value for each seed and image; R and N from 2."""
    seeds, images = values.shape
    centred = values - values.mean()
    of_seeds = images * float((centred.mean(axis=1) ** 2).sum())
    of_images = seeds * float((centred.mean(axis=0) ** 2).sum())
    residual = max(float((centred**2).sum()) - of_seeds - of_images, 0)
    degrees = (seeds - 1) * (images - 1)
    return MeanSquares(of_seeds / (seeds - 1), of_images / (images - 1), residual / degrees)


def agreement_floor(seeds: int) -> float:
    """Return how many residual mean squares the one between seeds counts at least.

    Runs agree by luck where the mean square between them is below the residual's. That happens in
    a twentieth of experiments if it should be (R - 1) / chi2 as large, with chi2 the 5 % quantile
    for R - 1 degrees of freedom. The floor, 2 for five seeds, makes an interval of 95 % err in at
    most a tenth of such experiments, even if all the variance is that of a single network: at 1, a
    seventh would.
    """
    return 1 + FLOOR_FOR_FEW_SEEDS / (seeds - 1)


def trained_gain(
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float = 0.95,
    weights: np.ndarray | None = None,
) -> Gain:
    """Return the gain of repeated trainings, all tested on the same images.

    The variance between seeds is the sum of both networks' own: twice the degrees of freedom of the
    differences', so that luck shrinks it less often. A seed pairs the order of the images, their
    augmentation and some first weights. Where that makes both networks better the interval is too
    wide. The degrees of freedom that are counted stay R - 1, which is right even where one network
    alone varies.

    Args:
        candidate: bool (R, N), whether the network of seed r got test image n right.
        baseline: the same, of the same seeds and images.
        confidence: of the interval.
        weights: float (N,), what each image counts, 1 in the mean; None where all count the same.

    Raises:
        ValueError: if the shapes differ, or there is no image.
    """
    if candidate.shape != baseline.shape or candidate.size == 0:
        shapes = f"{candidate.shape} and {baseline.shape}"
        raise ValueError(f"expected the same images for both, got the shapes {shapes}")
    if weights is None:
        weights = np.ones(candidate.shape[-1])
    ours, theirs = (POINTS * weights * correct for correct in (candidate, baseline))  # (R, N)
    variance = _variance(ours.mean(axis=1)) + _variance(theirs.mean(axis=1))
    return _clipped(_two_way(ours - theirs, variance, confidence, _mean_square(weights)))


def changed_gain(
    gains: np.ndarray, confidence: float = 0.95, weights: np.ndarray | None = None
) -> Gain:
    """Return the gain of a change to the very same networks, such as attention that is frozen.

    Args:
        gains: float or int (R, N), how much network r gained on test image n, in accuracies of
            0 to 1: -1 for an answer that the change made wrong.
        confidence: of the interval.
        weights: as in `trained_gain`.

    Raises:
        ValueError: if it is no such array, or there is no image.
    """
    if weights is None:
        weights = np.ones(gains.shape[-1])
    points = POINTS * weights * gains
    return _two_way(points, _variance(points.mean(axis=1)), confidence, _mean_square(weights))


def folds_gain(
    gains: Sequence[np.ndarray],
    confidence: float = 0.95,
    weights: Sequence[np.ndarray] | None = None,
) -> Gain:
    """Return the gain of a cross-validation, each fold tested on images of its own.

    The folds share training images, so their gains vary together: the corrected resampled t test
    (Nadeau and Bengio, Machine Learning 52, 2003, section 3) adds the covariance.

    Args:
        gains: int (N_k,) for each of K folds, in {-1, 0, 1}; each learnt from all others' images,
            among which those of its validation split count, which chose the epoch.
        confidence: of the interval.
        weights: float (N_k,) for each fold, as in `trained_gain`.

    Raises:
        ValueError: if there is no fold, or one without images.
    """
    if not gains or min(map(len, gains)) == 0:
        raise ValueError("expected folds, each with images")
    if weights is None:
        weights = [np.ones(len(fold)) for fold in gains]
    points = [POINTS * weight * fold for weight, fold in zip(weights, gains, strict=True)]
    folds, images = len(points), sum(map(len, points))
    by_fold = np.array([fold.mean() for fold in points])
    mean = float(np.concatenate(points).mean())
    if folds < 2 or min(map(len, points)) < 2:
        return _unknown(mean, by_fold, images, confidence)
    residual = float(np.mean([fold.var(ddof=1) / len(fold) for fold in points]))
    between = max(float(by_fold.var(ddof=1)), agreement_floor(folds) * residual)
    test_to_training = 1 / (folds - 1)
    variance = (1 / folds + test_to_training) * between
    variance += _mean_square(np.concatenate(weights)) * added_variance(images)
    return _clipped(_t_gain(mean, variance, folds - 1, by_fold, images, confidence, None))


def at_confidence(gain: Gain, confidence: float) -> Gain:
    """Return the same gain with its interval at another confidence."""
    if math.isnan(gain.standard_error):
        return replace(gain, confidence=confidence)
    quantile = float(stdtrit(gain.degrees_of_freedom, (1 + confidence) / 2))
    half = quantile * gain.standard_error
    return replace(gain, low=gain.gain - half, high=gain.gain + half, confidence=confidence)


def corrected(gains: Sequence[Gain]) -> list[Gain]:
    """Correct the gains of several pairs for their number: Bonferroni.

    All intervals together hold with the confidence at which the gains come in, the same for all,
    whatever is read off them: Holm's procedure would be sure of 0 alone, not of the margin. A pair
    that can't be tested counts, too.
    """
    return [
        replace(
            _clipped(at_confidence(gain, 1 - (1 - gain.confidence) / len(gains))),
            p_corrected=float(np.minimum(len(gains) * gain.p, 1)),
        )
        for gain in gains
    ]


def _clipped(gain: Gain) -> Gain:
    """Return a gain with its interval cut to what a difference of two accuracies can be."""
    return replace(gain, low=max(gain.low, -POINTS), high=min(gain.high, POINTS))


def _variance(by_seed: np.ndarray) -> float:
    """Return the sample variance of float (R,); NaN of a single seed."""
    return float(by_seed.var(ddof=1)) if len(by_seed) > 1 else math.nan


def _mean_square(weights: np.ndarray) -> float:
    return float((weights**2).mean())


def _two_way(gains: np.ndarray, variance_of_seeds: float, confidence: float, weight: float) -> Gain:
    """Return the gain of float (R, N) in points.

    Args:
        gains: of seed r on image n.
        variance_of_seeds: that of a seed's mean gain.
        confidence: of the interval.
        weight: the mean square of what an image counts.
    """
    if gains.ndim != 2 or gains.size == 0:
        raise ValueError(f"expected gains (seeds, images), got the shape {gains.shape}")
    seeds, images = gains.shape
    mean, by_seed = float(gains.mean()), gains.mean(axis=1)
    if seeds < 2 or images < 2:
        return _unknown(mean, by_seed, images, confidence)
    squares, between = mean_squares(gains), images * variance_of_seeds
    luck = max(between, agreement_floor(seeds) * squares.residual)
    answers = seeds * images
    added = answers * weight * added_variance(images)
    total = luck + max(squares.images - squares.residual, 0) + added
    # What images add to the variance is known well, which raises the degrees of freedom: by the
    # ratio, not by its square as Satterthwaite has it, with which few seeds err too often.
    degrees = (seeds - 1) * (total / luck if luck else 1)
    centred = gains - by_seed[:, None]
    # between two different seeds the answers share nothing but the image
    squared_sums = centred.sum(axis=0) ** 2 - (centred**2).sum(axis=0)
    products = squared_sums / (seeds * (seeds - 1))
    components = Components(
        seeds=between,
        residual=squares.residual,
        images=(squares.images - squares.residual) / seeds,
        images_error=float(products.std(ddof=1)) / math.sqrt(images),
        weight=weight,
    )
    return _t_gain(mean, total / answers, degrees, by_seed, images, confidence, components)


def added_variance(images: int) -> float:
    """Return what `ADDED_IMAGES` add to the variance of a mean over so many, in squared points."""
    return POINTS**2 * ADDED_IMAGES / images**2


def _t_gain(
    mean: float,
    variance: float,
    degrees_of_freedom: float,
    by_seed: np.ndarray,
    images: int,
    confidence: float,
    components: Components | None,
) -> Gain:
    error = math.sqrt(variance)
    p = float(2 * stdtr(degrees_of_freedom, -abs(mean) / error))
    gain = Gain(
        gain=mean,
        low=math.nan,
        high=math.nan,
        p=p,
        p_corrected=p,
        degrees_of_freedom=degrees_of_freedom,
        standard_error=error,
        sd_between_seeds=float(by_seed.std(ddof=1)),
        gain_by_seed=tuple(by_seed.tolist()),
        seeds=len(by_seed),
        images=images,
        confidence=confidence,
        components=components,
    )
    return at_confidence(gain, confidence)


def _unknown(mean: float, by_seed: np.ndarray, images: int, confidence: float) -> Gain:
    """Return a gain of which nothing says how sure it is."""
    nan, seeds = math.nan, len(by_seed)
    gains = tuple(by_seed.tolist())
    return Gain(mean, nan, nan, nan, nan, nan, nan, nan, gains, seeds, images, confidence, None)
