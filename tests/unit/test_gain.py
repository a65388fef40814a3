from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.api import stats as anova
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from pipeline.statistics.gain import (
    Gain,
    agreement_floor,
    at_confidence,
    changed_gain,
    corrected,
    folds_gain,
    mean_squares,
    trained_gain,
)

EXACT = 1e-9


def answers(seeds: int, images: int, accuracy: float, seed: int) -> np.ndarray:
    """Answers of networks that find the same images hard."""
    generator = np.random.default_rng(seed)
    hard = generator.beta(accuracy, 1 - accuracy, images)
    return generator.random((seeds, images)) < hard


def two_networks(
    seeds: int, images: int, seed: int, gain: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Answers that vary enough between seeds for no floor to be reached."""
    generator = np.random.default_rng(seed)
    hard = generator.beta(0.85, 0.15, images)
    luck = 0.2 * generator.normal(size=(2, seeds, 1))
    right = generator.random((2, seeds, images)) < (hard + luck) + [[[gain]], [[0]]]
    return right[0], right[1]


# Box, Hunter and Hunter, Statistics for Experimenters (1978), chapter 7: the yield of four
# processes of making penicillin (columns) with five blends of corn steep liquor (rows)
PENICILLIN = np.array(
    [[89, 88, 97, 94], [84, 77, 92, 79], [81, 87, 87, 85], [87, 92, 89, 84], [79, 81, 80, 88]],
    np.float64,
)
# Shrout and Fleiss, Psychological Bulletin 86 (1979) 420-428, table 2: six targets (columns), rated
# by four judges (rows), both random
RATINGS = np.array(
    [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]]
)


def test_mean_squares_are_those_of_the_published_penicillin_example() -> None:
    found = mean_squares(PENICILLIN)
    # printed there: sums of squares 264, 70 and 226, with 4, 3 and 12 degrees of freedom
    assert found.seeds == pytest.approx(264 / 4, rel=EXACT)
    assert found.images == pytest.approx(70 / 3, rel=EXACT)
    assert found.residual == pytest.approx(226 / 12, rel=EXACT)


def test_mean_squares_are_those_of_the_published_ratings() -> None:
    found = mean_squares(RATINGS.astype(np.float64))
    squares = (found.images, found.seeds, found.residual)
    assert squares == pytest.approx((11.24, 32.49, 1.02), abs=0.005)
    # ICC(2, 1), both factors random, printed as 0.29
    agreement = (found.images - found.residual) / (
        found.images + 3 * found.residual + 4 * (found.seeds - found.residual) / 6
    )
    assert agreement == pytest.approx(0.29, abs=0.005)


def test_interval_and_test_of_the_published_ratings_follow_by_hand() -> None:
    # the judges differ far more than their residuals, so that no floor is reached; in fractions:
    judges, targets, residual = 2339 / 24 / 3, 1349 / 24 / 5, 367 / 24 / 15
    added = 4 * 6 * 2 / 6**2  # two images more: one gained, one lost
    total = judges + targets - residual + added
    found = changed_gain(RATINGS)
    error = 100 * math.sqrt(total / 24)
    degrees = 3 * total / judges
    assert found.gain == pytest.approx(100 * 127 / 24, rel=EXACT)
    assert found.standard_error == pytest.approx(error, rel=EXACT)
    assert found.degrees_of_freedom == pytest.approx(degrees, rel=EXACT)
    expected = stats.t.interval(0.95, degrees, loc=100 * 127 / 24, scale=error)
    assert (found.low, found.high) == pytest.approx(expected, rel=EXACT)
    assert found.p == pytest.approx(2 * stats.t.sf(found.gain / error, degrees), rel=EXACT)


@pytest.mark.parametrize("seed", range(4))
def test_mean_squares_are_statsmodels(seed: int) -> None:
    values = np.random.default_rng(seed).normal(3, 1, (5, 40))
    table = pd.DataFrame(
        {
            "value": values.ravel(),
            "seed": np.repeat(np.arange(5), 40),
            "image": np.tile(np.arange(40), 5),
        }
    )
    found = mean_squares(values)
    expected = anova.anova_lm(ols("value ~ C(seed) + C(image)", table).fit())["mean_sq"]
    squares = (found.seeds, found.images, found.residual)
    assert squares == pytest.approx(tuple(expected), rel=EXACT)


# trainings, all tested on the same images


def test_gain_is_the_difference_of_the_accuracies_in_points() -> None:
    candidate = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool)  # 5 of 8
    baseline = np.array([[1, 0, 1, 0], [0, 1, 0, 0]], dtype=bool)  # 3 of 8
    found = trained_gain(candidate, baseline)
    assert found.gain == pytest.approx(25.0)
    assert found.gain_by_seed == pytest.approx((25.0, 25.0))
    assert (found.seeds, found.images) == (2, 4)


def test_variance_between_trainings_is_the_sum_of_both_networks_own() -> None:
    candidate, baseline = two_networks(6, 400, seed=1)
    found = trained_gain(candidate, baseline)
    accuracies = [100 * network.mean(axis=1) for network in (candidate, baseline)]
    between = 400 * sum(np.var(accuracy, ddof=1) for accuracy in accuracies)
    squares = mean_squares(100.0 * (candidate.astype(int) - baseline.astype(int)))
    assert between > agreement_floor(6) * squares.residual
    images = max(squares.images - squares.residual, 0) + 6 * 400 * 2 * (100 / 400) ** 2
    error = math.sqrt((between + images) / (6 * 400))
    assert found.standard_error == pytest.approx(error, rel=EXACT)
    assert found.degrees_of_freedom == pytest.approx(5 * (between + images) / between, rel=EXACT)
    assert found.sd_between_seeds == pytest.approx(np.std(accuracies[0] - accuracies[1], ddof=1))


def test_no_seeds_order_makes_a_gain_surer() -> None:
    candidate, baseline = two_networks(5, 300, seed=2)
    agreeing = np.argsort(candidate.mean(axis=1)), np.argsort(baseline.mean(axis=1))
    paired = trained_gain(candidate[agreeing[0]], baseline[agreeing[1]])
    crossed = trained_gain(candidate[agreeing[0]], baseline[agreeing[1]][::-1])
    assert paired.sd_between_seeds < crossed.sd_between_seeds / 2
    assert paired.standard_error == pytest.approx(crossed.standard_error, rel=0.05)


def test_without_images_of_their_own_gains_of_many_seeds_are_tested_by_students_t() -> None:
    # each image is gained by exactly one network: images add nothing, but for the two added
    winner = np.repeat(np.arange(4), [5000, 30_000, 15_000, 50_000])
    candidate = winner == np.arange(4)[:, None]
    found = trained_gain(candidate, np.zeros_like(candidate))
    expected = stats.ttest_1samp(100 * candidate.mean(axis=1), 0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-3)
    assert found.degrees_of_freedom == pytest.approx(3, rel=1e-3)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-3)


def test_runs_that_agree_by_luck_prove_nothing() -> None:
    # every run gains 60 and loses 40 of 1,000 images, but never the same ones
    run = np.repeat([1, -1, 0], [60, 40, 900])
    gains = np.stack([np.roll(run, 300 * seed) for seed in range(3)])
    found = trained_gain(gains > 0, gains < 0)
    assert found.sd_between_seeds == 0
    # 100 tosses in each of three runs, three times the variance, 2 degrees of freedom
    assert found.degrees_of_freedom == pytest.approx(2, rel=0.03)
    assert found.standard_error > math.sqrt(3) * 100 * math.sqrt(300) / 3000 * 0.95
    assert found.p > 0.1


def test_networks_that_never_differ_have_an_interval() -> None:
    right = np.ones((3, 360), bool)
    found = trained_gain(right, right)
    # two of 360 images, one gained and one lost
    half = stats.t.ppf(0.975, 2) * 100 * math.sqrt(2) / 360
    assert (found.low, found.high) == pytest.approx((-half, half), rel=EXACT)
    assert found.p == 1


@pytest.mark.parametrize(("seeds", "images"), [(1, 100), (3, 1)])
def test_a_single_seed_or_image_has_a_gain_and_no_interval(seeds: int, images: int) -> None:
    right = np.ones((seeds, images), bool)
    found = trained_gain(right, ~right)
    assert found.gain == 100
    unknown = (found.low, found.high, found.p, found.p_corrected, found.standard_error)
    assert all(map(math.isnan, unknown))


@pytest.mark.parametrize("shapes", [((3, 10), (2, 10)), ((3, 10), (3, 9)), ((3, 0), (3, 0))])
def test_runs_on_different_images_are_no_pair(shapes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        trained_gain(*(np.ones(shape, bool) for shape in shapes))


@pytest.mark.parametrize("seeds", range(2, 60))
def test_floor_lets_a_tenth_of_agreements_by_luck_err(seeds: int) -> None:
    larger = (seeds - 1) / stats.chi2.ppf(0.05, seeds - 1)
    needed = (stats.norm.ppf(0.95) / stats.t.ppf(0.975, seeds - 1)) ** 2 * larger
    assert needed <= agreement_floor(seeds) <= 1.3 * max(needed, 1)


# the same networks, changed


def test_change_of_the_same_networks_is_paired() -> None:
    generator = np.random.default_rng(5)
    before = answers(5, 1000, 0.85, 5)
    after = before & (generator.random(before.shape) > 0.01)
    found = changed_gain(after.astype(int) - before)
    assert found.gain == pytest.approx(100 * (after.mean() - before.mean()))
    assert found.high < 0
    assert found.standard_error < trained_gain(after, before).standard_error


# cross-validation


def test_folds_are_tested_by_the_corrected_resampled_t_test() -> None:
    shares = [(60, 10), (20, 20), (90, 5), (10, 30), (50, 20)]
    folds = [np.repeat([1, -1, 0], [won, lost, 2000 - won - lost]) for won, lost in shares]
    folds = [np.tile(fold, 10) for fold in folds]
    plain = stats.ttest_1samp([fold.mean() for fold in folds], 0)
    corrected_t = plain.statistic * math.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    found = folds_gain(folds)
    assert found.degrees_of_freedom == 4
    assert found.gain / found.standard_error == pytest.approx(corrected_t, rel=1e-3)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(corrected_t), 4), rel=1e-3)
    assert (found.seeds, found.images) == (5, 100_000)
    assert found.components is None


def test_folds_of_different_sizes_have_the_mean_over_all_images() -> None:
    folds = [np.repeat([1, -1, 0], [3, 1, 6]), np.zeros(5, int)]
    assert folds_gain(folds).gain == pytest.approx(100 * 2 / 15)


def test_folds_that_agree_by_luck_prove_nothing() -> None:
    found = folds_gain([np.repeat([1, 0], [1, 35])] * 5)
    within = (1 / 36) * (35 / 36) / 35
    variance = (1 / 5 + 1 / 4) * 2 * within + 2 / 180**2
    assert found.standard_error == pytest.approx(100 * math.sqrt(variance), rel=EXACT)
    assert found.p > 0.05


def test_a_single_fold_has_no_interval_and_none_is_an_error() -> None:
    assert math.isnan(folds_gain([np.zeros(9, int)]).low)
    with pytest.raises(ValueError, match="folds"):
        folds_gain([])


# several pairs


def made_gain(p: float, gain: float = 1.0, degrees: float = 4.3) -> Gain:
    """Return a gain whose test has this p."""
    error = gain / stats.t.isf(p / 2, degrees)
    made = trained_gain(np.eye(3, 50, dtype=bool), np.eye(3, 50, dtype=bool))
    made = replace(made, gain=gain, degrees_of_freedom=degrees, standard_error=error, p=p)
    return at_confidence(made, 0.95)


@pytest.mark.parametrize("seed", range(20))
def test_interval_of_each_pair_excludes_0_where_the_corrected_p_is_small(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gains = [made_gain(p, degrees=3 + 9 * generator.random()) for p in generator.random(6) ** 6]
    found = corrected(gains)
    rejected, p_values, _, each = multipletests([gain.p for gain in gains], 0.05, "bonferroni")
    assert [gain.p_corrected for gain in found] == pytest.approx(list(p_values), rel=EXACT)
    assert [gain.low > 0 for gain in found] == list(rejected)
    for before, after in zip(gains, found, strict=True):
        assert (after.gain, after.p) == (before.gain, before.p)
        assert after.confidence == pytest.approx(1 - each, rel=EXACT)
        expected = stats.t.interval(
            1 - each, after.degrees_of_freedom, after.gain, after.standard_error
        )
        assert (after.low, after.high) == pytest.approx(expected, rel=EXACT)


def test_the_intervals_of_all_pairs_hold_together_whatever_is_read_off_them() -> None:
    # true gains far from 0, each of ten pairs: as when all are tested against the margin
    draws, experiments, truth, error, wrong = np.random.default_rng(0), 4000, 0.5, 0.05, 0
    shape = made_gain(0.5, degrees=1e6)
    for estimates in draws.normal(truth, error, (experiments, 10)):
        p_values = 2 * stats.norm.sf(estimates / error)
        gains = [
            replace(shape, gain=gain, standard_error=error, p=p)
            for gain, p in zip(estimates, p_values, strict=True)
        ]
        wrong += any(not found.low <= truth <= found.high for found in corrected(gains))
    # 5 % and three standard errors of that; Holm's procedure would miss one in a fifth of them
    assert 0.03 * experiments <= wrong <= 0.0604 * experiments


def test_a_pair_that_cannot_be_tested_counts_and_has_no_p() -> None:
    single = trained_gain(np.ones((1, 9), bool), np.zeros((1, 9), bool))
    found = corrected([made_gain(0.01), single])
    assert found[0].p_corrected == pytest.approx(0.02)
    assert math.isnan(found[1].p_corrected)
    assert math.isnan(found[1].low)
    assert corrected([]) == []
    assert corrected([made_gain(0.03)]) == [replace(made_gain(0.03), p_corrected=0.03)]


def test_a_difference_of_accuracies_ends_at_100_points() -> None:
    ours = np.array([[True, True, False, True], [True, False, True, True]])
    theirs = np.array([[False, True, False, False], [True, True, False, False]])
    alone = trained_gain(ours, theirs)
    assert (alone.low, alone.high) == (-100, 100)
    (found,) = corrected([alone])
    assert (found.low, found.high) == (-100, 100)
