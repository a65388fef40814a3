from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.api import stats as anova
from statsmodels.formula.api import ols
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from pipeline.statistics.estimates import Estimate
from pipeline.statistics.significance import (
    McNemar,
    MeanGain,
    PValues,
    corrected_p_values,
    crossed_gain,
    discordant_gain,
    holm,
    mcnemar,
    nested_gain,
    p_as_large_as,
    p_no_difference,
    smallest_detectable,
)
from pipeline.statistics.verdict import verdict


def gains(runs: int, images: int, gained: float, lost: float, seed: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).random((runs, images))
    return list((drawn < gained).astype(np.int8) - (drawn > 1 - lost).astype(np.int8))


def one_run(gained: int, lost: int, same: int) -> np.ndarray:
    return np.repeat(np.array([1, -1, 0], np.int8), [gained, lost, same])


# one run


@pytest.mark.parametrize(
    ("gained", "lost"), [(5, 7), (15, 3), (0, 4), (9, 9), (449, 400), (1, 0), (70, 0)]
)
def test_mcnemar_is_statsmodels_exact_test(gained: int, lost: int):
    found = mcnemar(one_run(gained, lost, 100))
    expected = statsmodels_mcnemar([[80, gained], [lost, 20]], exact=True).pvalue
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(expected, rel=1e-9)


def test_mcnemar_follows_the_binomial():
    # 15 heads or more, or 3 or fewer, in 18 tosses
    expected = 2 * sum(math.comb(18, k) for k in range(4)) / 2**18
    assert mcnemar(one_run(15, 3, 0)).p == pytest.approx(expected)


def test_networks_that_never_disagree_show_no_difference():
    assert mcnemar(np.zeros(50, np.int8)) == McNemar(0, 0, 1.0)


# several runs on the same images


@pytest.mark.parametrize("seed", range(6))
def test_crossed_gain_is_made_of_the_mean_squares_of_a_two_way_analysis_of_variance(seed: int):
    runs, images = 4, 30
    by_run = 100.0 * np.stack(gains(runs, images, 0.4, 0.1, seed))
    by_run[:, :10] = 100 * (np.arange(10) % 2)  # the same for all runs
    by_run[seed % runs] = np.roll(by_run[seed % runs], 3)
    table = pd.DataFrame(
        {
            "gain": by_run.ravel(),
            "run": np.repeat(np.arange(runs), images),
            "image": np.tile(np.arange(images), runs),
        }
    )
    squares = anova.anova_lm(ols("gain ~ C(run) + C(image)", table).fit())
    between_runs, between_images, residual = squares["sum_sq"] / squares["df"]
    total = max(between_runs, residual) + max(between_images - residual, 0)
    found = crossed_gain(list((by_run / 100).astype(np.int8)))
    assert found.mean == pytest.approx(by_run.mean())
    assert found.standard_error == pytest.approx(math.sqrt(total / (runs * images)))
    assert found.degrees_of_freedom == pytest.approx((runs - 1) * (total / between_runs) ** 2)


def test_runs_that_gain_on_different_images_are_tested_by_students_t_over_their_means():
    # each image is gained in exactly one run: images add nothing to the runs' means
    winner = np.repeat(np.arange(4), [50, 300, 150, 500])
    runs = [(winner == run).astype(np.int8) for run in range(4)]
    expected = stats.ttest_1samp([run.mean() for run in runs], 0)
    found = crossed_gain(runs)
    assert found.degrees_of_freedom == pytest.approx(3)
    assert p_no_difference(found) == pytest.approx(expected.pvalue)
    margin = stats.ttest_1samp([run.mean() for run in runs], 0.4, alternative="less")
    assert p_as_large_as(found, 40.0) == pytest.approx(margin.pvalue)


def test_runs_that_are_copies_count_once():
    (run,) = gains(1, 500, 0.2, 0.1, 0)
    found = crossed_gain([run, run, run])
    expected = stats.ttest_1samp(run.astype(float), 0)
    assert found.standard_error == pytest.approx(100 * stats.sem(run.astype(float)))
    assert found.degrees_of_freedom > 1e9
    assert p_no_difference(found) == pytest.approx(2 * stats.norm.sf(abs(expected.statistic)))


def test_runs_that_agree_by_luck_do_not_prove_anything():
    # every run gains 60 and loses 40 of 1,000 images, but never the same ones
    runs = [np.roll(one_run(60, 40, 900), 300 * run) for run in range(3)]
    found = crossed_gain(runs)
    assert np.var([run.mean() for run in runs]) == 0
    # 100 tosses in each of three runs
    assert found.standard_error == pytest.approx(100 * math.sqrt(300) / 3000, rel=0.05)
    assert p_no_difference(found) > 0.0005


@pytest.mark.parametrize(
    "untestable",
    [gains(1, 100, 0.3, 0.1, 0), [np.zeros(100, np.int8)] * 3, [np.ones(1, np.int8)] * 3],
)
def test_what_cannot_be_tested_has_no_p(untestable: list[np.ndarray]):
    found = crossed_gain(untestable)
    assert math.isnan(p_no_difference(found))
    assert math.isnan(p_as_large_as(found, 0.5))


# cross-validation


def test_folds_are_tested_by_the_corrected_resampled_t_test():
    folds = [one_run(60, 10, 130), one_run(20, 20, 160), one_run(90, 5, 105), one_run(10, 30, 160)]
    folds.append(one_run(50, 20, 130))
    means = [fold.mean() for fold in folds]
    plain = stats.ttest_1samp(means, 0)
    # each fold is tested on a quarter as many images as it was trained on
    corrected = plain.statistic * math.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    found = nested_gain(folds)
    assert found.mean / found.standard_error == pytest.approx(corrected)
    assert p_no_difference(found) == pytest.approx(2 * stats.t.sf(abs(corrected), 4))
    assert p_no_difference(found) > plain.pvalue


def test_folds_of_different_sizes_have_the_mean_over_all_images():
    folds = [one_run(3, 1, 6), one_run(0, 0, 5)]
    assert nested_gain(folds).mean == pytest.approx(100 * 2 / 15)


@pytest.mark.parametrize("size", [9, 36, 37])
@pytest.mark.parametrize("runs", [2, 3, 6, 7])
def test_folds_that_agree_by_luck_prove_nothing(runs: int, size: int):
    found = nested_gain([one_run(1, 0, size - 1)] * runs)
    # expected of so many images of one fold: the variance of the mean of a single 1
    expected = 100 * math.sqrt((1 / runs + 1 / (runs - 1)) * (1 - 1 / size) / size / (size - 1))
    assert found.standard_error == pytest.approx(expected)
    assert p_no_difference(found) > 0.05


def test_folds_that_never_differ_and_single_folds_have_no_p():
    assert math.isnan(p_no_difference(nested_gain([one_run(0, 0, 9)] * 3)))
    assert math.isnan(p_no_difference(nested_gain([one_run(3, 1, 6)])))


def test_two_seeds_that_agree_by_luck_are_given_few_degrees_of_freedom():
    two = [one_run(30, 0, 970), np.roll(one_run(30, 0, 970), 30)]  # the same gain, other images
    found = crossed_gain(two)
    assert found.degrees_of_freedom < 2
    assert p_no_difference(found) > 0.05


# several pairs


def test_holm_is_that_of_statsmodels_and_of_the_closed_form():
    p = [0.02, 0.01, 0.04, 0.03]
    assert holm(p) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    drawn = list(np.random.default_rng(0).random(12) ** 3)
    assert holm(drawn) == pytest.approx(multipletests(drawn, method="holm")[1].tolist())
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


def test_a_pair_without_a_p_counts_as_a_hypothesis():
    found = holm([0.01, math.nan, 0.4])
    assert found[::2] == pytest.approx([0.03, 0.8])
    assert math.isnan(found[1])
    assert holm([math.nan, 1.0, math.nan])[1] == 1.0


def test_both_tests_of_each_pair_are_corrected():
    gains_of_pairs = [MeanGain(1.0, 0.4, 6.0), MeanGain(-1.0, 0.4, 6.0), MeanGain(0.0, 0.4, 6.0)]
    found = corrected_p_values(gains_of_pairs, margin=0.5)
    two_sided = [p_no_difference(gain) for gain in gains_of_pairs]
    one_sided = [p_as_large_as(gain, 0.5) for gain in gains_of_pairs]
    assert [p.no_difference for p in found] == two_sided
    assert [p.margin for p in found] == one_sided
    assert [p.no_difference_holm for p in found] == holm(two_sided)
    assert [p.margin_holm for p in found] == holm(one_sided)
    assert two_sided[0] == pytest.approx(2 * stats.t.sf(2.5, 6))
    assert one_sided[1] == pytest.approx(stats.t.sf(3.75, 6))


# what an experiment of this size can detect


@pytest.mark.parametrize(("degrees", "tolerance"), [(4, 0.03), (10, 0.015), (1e6, 0.001)])
def test_the_smallest_detectable_gain_is_found_four_times_in_five(degrees: float, tolerance: float):
    gain = smallest_detectable(MeanGain(0.0, 0.3, degrees), confidence=0.95)
    critical = stats.t.ppf(0.975, degrees)
    power = stats.nct.sf(critical, degrees, gain / 0.3)
    assert power == pytest.approx(0.8, abs=tolerance)


def test_fewer_runs_detect_less():
    few, many = (smallest_detectable(MeanGain(0.0, 0.3, runs - 1), 0.95) for runs in (3, 25))
    assert few == pytest.approx((4.302653 + 1.060660) * 0.3, rel=1e-5)  # tables of Student's t
    assert many < few / 1.8


def test_a_single_runs_discordant_images_give_its_smallest_detectable_gain():
    # 848 discordant of 10,000: McNemar's test needs a difference of about 82 for a power of 0.8
    found = smallest_detectable(discordant_gain(one_run(434, 414, 9152)), confidence=0.95)
    assert found == pytest.approx((1.959964 + 0.841621) * math.sqrt(848) / 100, rel=1e-5)
    lost = int((848 - 100 * found) / 2)
    rejected = [k for k in range(849) if stats.binomtest(k, 848).pvalue < 0.05]
    power = stats.binom.pmf(rejected, 848, 1 - lost / 848).sum()
    assert power == pytest.approx(0.8, abs=0.02)
    assert math.isnan(smallest_detectable(discordant_gain(np.zeros(10, np.int8)), 0.95))


# the verdict's rule

SURE, UNSURE = 0.001, 0.2


def judged(low: float, high: float, p: float, p_margin: float) -> str:
    difference = Estimate((low + high) / 2, low, high, 0.1, 0.95, 3, "bca")
    return verdict(difference, PValues(math.nan, p, math.nan, p_margin), margin=0.5)


@pytest.mark.parametrize(
    ("low", "high", "p", "p_margin", "expected"),
    [
        (0.1, 2.0, SURE, UNSURE, "pays"),
        (0.1, 2.0, 0.049, UNSURE, "pays"),
        (0.1, 2.0, 0.051, UNSURE, "undecided"),  # the interval alone does not do
        (0.1, 0.3, SURE, SURE, "pays"),  # however small
        (0.1, 0.3, UNSURE, SURE, "does not pay"),
        (0.0, 2.0, SURE, UNSURE, "undecided"),  # nor the test alone
        (-1.0, 0.5, UNSURE, SURE, "undecided"),
        (-1.0, 0.49, UNSURE, SURE, "does not pay"),
        (-1.0, 0.49, UNSURE, 0.024, "does not pay"),
        (-1.0, 0.49, UNSURE, 0.026, "undecided"),
        (-2.0, -1.0, SURE, SURE, "does not pay"),  # it costs accuracy
        (-1.0, 2.0, UNSURE, UNSURE, "undecided"),
        (0.1, 0.3, math.nan, math.nan, "undecided"),  # a single run
        (-2.0, -1.0, math.nan, math.nan, "undecided"),
    ],
)
def test_verdict_follows_its_rule(
    low: float, high: float, p: float, p_margin: float, expected: str
):
    assert judged(low, high, p, p_margin) == expected
