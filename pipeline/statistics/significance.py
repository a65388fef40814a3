"""Whether a difference in accuracy is there: tests over images, runs and pairs.

The bootstrap of `estimates` describes the runs at hand; of three runs it can't know how much other
runs would differ. The tests here can: they pay for few runs with a t distribution of few degrees of
freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

POWER = 0.8


@dataclass(frozen=True)
class McNemar:
    """The exact test of McNemar, Psychometrika 12 (1947), for the two networks of one run."""

    gained: int  # images that only the candidate got right
    lost: int  # images that only the baseline got right
    p: float  # two-sided, of no difference on images like these between these two networks


@dataclass(frozen=True)
class MeanGain:
    """A mean gain with what is known of its error: t distributed about the true one.

    Of a single run, of a single image a run, and where gains don't vary, its error is NaN.
    """

    mean: float  # over all images of all runs, in percentage points
    standard_error: float  # in percentage points
    degrees_of_freedom: float  # of the standard error; infinite where it is known


@dataclass(frozen=True)
class PValues:
    """What the tests of one pair among several came to; NaN where nothing can be tested."""

    no_difference: float  # two-sided
    no_difference_holm: float  # the same, corrected for all pairs
    margin: float  # one-sided, of a true gain of the margin or more
    margin_holm: float  # the same, corrected for all pairs


# Gets gains, int8 (N_r,) in {-1, 0, 1} for each run.
GainTest = Callable[[Sequence[np.ndarray]], MeanGain]


def mcnemar(gains: np.ndarray) -> McNemar:
    """Test one run's gains, int8 (N,) in {-1, 0, 1}: the sign test of those that are not 0."""
    gained, lost = int((gains > 0).sum()), int((gains < 0).sum())
    if gained + lost == 0:
        return McNemar(0, 0, 1.0)
    return McNemar(gained, lost, float(stats.binomtest(gained, gained + lost).pvalue))


def crossed_gain(gains: Sequence[np.ndarray]) -> MeanGain:
    """Return the mean gain of runs that were all tested on the same images.

    Runs are to images what readers are to cases in radiology, and the analysis is theirs: a two-way
    layout with random runs and random images, without replication. Dorfman, Berbaum and Metz,
    Investigative Radiology 27 (1992), with the degrees of freedom of Hillis, Statistics in Medicine
    26 (2007) 596-619. No variance is estimated below 0: where runs differ less than their residuals
    suggest, that is luck, and the residuals replace them. Otherwise runs that happen to agree would
    prove anything. Two runs that agree are given the degrees of freedom of the residuals too. In
    simulations a verdict at a confidence of 0.95 misled in at most 5 of 100 experiments; at 0.99
    three runs mislead more often than 1 in 100, as the approximation does not hold in far tails.

    Args:
        gains: int8 (N,) in {-1, 0, 1} for each run, of the same images in the same order.
    """
    by_run = 100 * np.stack(gains).astype(np.float64)  # (R, N)
    runs, images = by_run.shape
    mean = by_run.mean()
    if runs < 2 or images < 2:
        return MeanGain(float(mean), math.nan, math.nan)
    run_means, image_means = by_run.mean(axis=1), by_run.mean(axis=0)
    residuals = by_run - run_means[:, None] - image_means + mean
    between_runs = images * run_means.var(ddof=1)
    between_images = runs * image_means.var(ddof=1)
    residual = (residuals**2).sum() / ((runs - 1) * (images - 1))
    luck = max(between_runs, residual)
    total = luck + max(between_images - residual, 0)
    if total == 0:
        return MeanGain(float(mean), math.nan, math.nan)
    counted = luck if runs == 2 else between_runs
    degrees_of_freedom = float((runs - 1) * (total / counted) ** 2) if counted else math.inf
    return MeanGain(float(mean), math.sqrt(total / (runs * images)), degrees_of_freedom)


def nested_gain(gains: Sequence[np.ndarray]) -> MeanGain:
    """Return the mean gain of the runs of a cross-validation, each tested on images of its own.

    The runs share training images, so their means vary together, and their variance is too small.
    The corrected resampled t test makes up for it: Nadeau and Bengio, Inference for the
    Generalization Error, Machine Learning 52 (2003) 239-281, section 3. Runs that happen to agree
    prove nothing: their variance is never less than that of the mean of so many images.

    Args:
        gains: int8 (N_r,) in {-1, 0, 1} for each run; each trained on the images of all others.
    """
    runs = len(gains)
    mean = 100 * float(np.concatenate(gains).mean())
    if runs < 2 or min(map(len, gains)) < 2 or len(np.unique(np.concatenate(gains))) == 1:
        return MeanGain(mean, math.nan, math.nan)
    between = np.var([100 * run.mean() for run in gains], ddof=1)
    within = np.mean([100**2 * run.var(ddof=1) / len(run) for run in gains])
    variance = max(between, within)
    test_to_training = 1 / (runs - 1)
    return MeanGain(mean, math.sqrt((1 / runs + test_to_training) * variance), runs - 1)


def discordant_gain(gains: np.ndarray) -> MeanGain:
    """Return the mean gain of one run, int8 (N,) in {-1, 0, 1}, as McNemar's test sees it.

    Its error is that of no difference: each discordant image is a toss of a coin. How much runs
    vary is left out. It is NaN where there is no discordant image.
    """
    discordant = int(np.count_nonzero(gains))
    error = 100 * math.sqrt(discordant) / len(gains) if discordant else math.nan
    return MeanGain(100 * float(gains.mean()), error, math.inf)


def p_no_difference(gain: MeanGain) -> float:
    """Return the two-sided p of no difference; NaN where the standard error is not known."""
    distance = abs(gain.mean) / gain.standard_error
    return float(2 * stats.t.sf(distance, gain.degrees_of_freedom))


def p_as_large_as(gain: MeanGain, margin: float) -> float:
    """Return the one-sided p of a true gain of `margin` points or more; NaN as above."""
    distance = (gain.mean - margin) / gain.standard_error
    return float(stats.t.cdf(distance, gain.degrees_of_freedom))


def corrected_p_values(gains: Sequence[MeanGain], margin: float) -> list[PValues]:
    """Test the mean gains of several pairs against none and `margin` points; correct for all."""
    no_difference = [p_no_difference(gain) for gain in gains]
    as_large = [p_as_large_as(gain, margin) for gain in gains]
    columns = (no_difference, holm(no_difference), as_large, holm(as_large))
    return [PValues(*row) for row in zip(*columns, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number: Holm, Scandinavian Journal of Statistics 6 (1979).

    One that is NaN stays so, and counts as a hypothesis that was not rejected.
    """
    given = np.array(p_values, np.float64)
    filled = np.nan_to_num(given, nan=1.0)
    smallest_first = filled.argsort()
    not_yet_rejected = np.arange(len(given), 0, -1)
    corrected = np.empty_like(given)
    corrected[smallest_first] = np.maximum.accumulate(not_yet_rejected * filled[smallest_first])
    return np.where(np.isnan(given), np.nan, corrected.clip(max=1)).tolist()


def smallest_detectable(gain: MeanGain, confidence: float) -> float:
    """Return the smallest true gain in points that a repetition would probably detect.

    The two-sided test at 1 - `confidence`, before correction for several pairs, finds it with a
    probability of `POWER`: Bloom, Minimum Detectable Effects, Evaluation Review 19 (1995).
    """
    levels = [1 - (1 - confidence) / 2, POWER]
    quantiles = stats.t.ppf(levels, gain.degrees_of_freedom)
    return float(quantiles.sum() * gain.standard_error)
