from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics import estimates
from pipeline.statistics.estimates import (
    CROSSED,
    NESTED,
    Bootstrap,
    Estimate,
    accuracy_estimate,
    bootstrap_mean,
    crossed_means,
    nested_influences,
    nested_means,
    paired_gains,
    recall_difference,
)


def crossed(confidence: float, resamples: int, seed: int) -> Bootstrap:
    return Bootstrap(CROSSED, confidence, resamples, seed)


def nested(confidence: float, resamples: int, seed: int) -> Bootstrap:
    return Bootstrap(NESTED, confidence, resamples, seed)


def answers(seeds: int, images: int, accuracy: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < accuracy


def difference(
    candidate: Sequence[np.ndarray], baseline: Sequence[np.ndarray], bootstrap: Bootstrap
) -> Estimate:
    return bootstrap_mean(paired_gains(candidate, baseline), bootstrap)


def test_mean_is_the_difference_of_the_accuracies_in_points():
    candidate = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool)  # 5 of 8
    baseline = np.array([[1, 0, 1, 0], [0, 1, 0, 0]], dtype=bool)  # 3 of 8
    found = difference(candidate, baseline, crossed(0.95, 200, 0))
    assert found.mean == pytest.approx(25.0)
    assert found.runs == 2


def test_standard_error_of_one_seed_is_that_of_a_mean_of_bootstrap_means():
    candidate, baseline = answers(1, 2000, 0.85, 1), answers(1, 2000, 0.8, 2)
    gained = candidate[0].astype(float) - baseline[0].astype(float)
    expected = 100 * math.sqrt(gained.var() / 2000)
    found = difference(candidate, baseline, crossed(0.95, 20_000, 0))
    assert found.standard_error == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("share", "images"), [(0.9, 500), (0.98, 60)])
def test_interval_of_one_seed_is_scipys_bca_bootstrap(share: float, images: int):
    candidate, baseline = answers(1, images, share, 3), answers(1, images, 0.85, 4)
    gained = 100 * (candidate[0].astype(float) - baseline[0].astype(float))
    theirs = stats.bootstrap(
        (gained,), np.mean, n_resamples=50_000, confidence_level=0.9, method="BCa", rng=5
    ).confidence_interval
    ours = difference(candidate, baseline, crossed(0.9, 50_000, 0))
    assert ours.method == "bca"
    # the mean moves in steps of one image
    assert ours.low == pytest.approx(theirs.low, abs=1.01 * 100 / images)
    assert ours.high == pytest.approx(theirs.high, abs=1.01 * 100 / images)


def test_interval_of_a_rare_success_is_scipys_and_not_the_percentiles():
    correct = np.arange(400) < 6
    theirs = stats.bootstrap(
        (100.0 * correct,), np.mean, n_resamples=50_000, method="BCa", rng=5
    ).confidence_interval
    ours = accuracy_estimate([correct], crossed(0.95, 50_000, 0))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    plain = np.quantile(100 * crossed_means([correct], 50_000, np.random.default_rng(0)), 0.975)
    assert ours.high > plain


def test_interval_over_images_and_seeds_is_scipys_bca_bootstrap_of_two_samples():
    gained = (np.random.default_rng(6).random((6, 80)) < 0.12).astype(np.int8)
    gained[0, :30] = 1

    def mean_of_drawn(runs: np.ndarray, images: np.ndarray, axis: int) -> np.ndarray:
        return 100 * gained[runs[..., :, None], images[..., None, :]].mean(axis=(-2, -1))

    theirs = stats.bootstrap(
        (np.arange(6), np.arange(80)),
        mean_of_drawn,
        n_resamples=40_000,
        confidence_level=0.9,
        method="BCa",
        rng=5,
        batch=2000,
    )
    ours = bootstrap_mean(list(gained), crossed(0.9, 40_000, 0))
    assert ours.method == "bca"
    interval = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=0.02)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.02)
    plain = np.quantile(100 * crossed_means(list(gained), 40_000, np.random.default_rng(0)), 0.95)
    assert ours.high > 1.03 * plain


def test_percentiles_stand_in_where_bca_is_not_defined():
    rare = [np.arange(100) < 1]
    assert accuracy_estimate(rare, crossed(0.95, 2000, 0)).method == "bca"
    # so far out that the acceleration would turn the order of the quantiles round
    found = accuracy_estimate(rare, crossed(1 - 1e-12, 2000, 0))
    means = 100 * crossed_means(rare, 2000, np.random.default_rng(0))
    assert found.method == "percentile"
    assert (found.low, found.high) == pytest.approx((means.min(), means.max()), abs=1e-6)
    no_spread = bootstrap_mean([np.zeros(5, np.int8)], crossed(0.95, 2000, 0))
    assert (no_spread.low, no_spread.high, no_spread.method) == (0, 0, "percentile")


@pytest.mark.parametrize("runs", [1, 3])
def test_perfect_answers_have_the_exact_binomial_interval(runs: int):
    found = accuracy_estimate([np.ones(360, bool)] * runs, crossed(0.95, 200, 0))
    assert (found.mean, found.high, found.method) == (100, 100, "exact")
    assert found.low == pytest.approx(100 * 0.025 ** (1 / 360))  # closed form; three seeds, one set
    none = accuracy_estimate([np.zeros(360, bool)] * runs, crossed(0.95, 200, 0))
    assert (none.low, none.high) == (0, pytest.approx(100 - found.low))


def test_many_resamples_are_drawn_in_parts_without_a_change(monkeypatch: pytest.MonkeyPatch):
    values = list(np.random.default_rng(3).integers(-1, 2, (4, 50)))
    at_once = crossed_means(values, 101, np.random.default_rng(0))
    monkeypatch.setattr(estimates, "DRAWN_AT_ONCE", 100)
    assert crossed_means(values, 101, np.random.default_rng(0)).tolist() == at_once.tolist()


def test_standard_error_over_images_and_seeds_follows_the_two_way_closed_form():
    gained = np.random.default_rng(6).integers(-1, 2, (5, 400))
    seeds, images = gained.shape
    # the variance of sum(w_s v_n d_sn) / (S N) for independent multinomial weights w and v
    between_seeds = gained.mean(axis=1).var() / seeds
    between_images = gained.mean(axis=0).var() / images
    centred = gained - gained.mean(axis=1, keepdims=True) - gained.mean(axis=0) + gained.mean()
    interaction = (centred**2).mean() / (seeds * images)
    expected = 100 * math.sqrt(between_seeds + between_images + interaction)
    found = difference(gained > 0, gained < 0, crossed(0.95, 40_000, 0))
    assert found.standard_error == pytest.approx(expected, rel=0.02)


def test_pairing_matters():
    baseline = answers(3, 1000, 0.8, 7)
    candidate = baseline.copy()
    candidate[:, :10] = True
    paired = difference(candidate, baseline, crossed(0.95, 2000, 0))
    shuffled = difference(candidate[:, ::-1], baseline, crossed(0.95, 2000, 0))
    assert paired.mean == pytest.approx(shuffled.mean)
    assert paired.standard_error < shuffled.standard_error / 5


def test_identical_networks_differ_by_exactly_nothing():
    correct = answers(3, 100, 0.9, 8)
    found = difference(correct, correct.copy(), crossed(0.95, 500, 0))
    assert (found.mean, found.low, found.high, found.standard_error) == (0, 0, 0, 0)
    assert found.method == "percentile"


def test_the_same_seed_gives_the_same_interval():
    candidate, baseline = answers(3, 200, 0.9, 9), answers(3, 200, 0.85, 10)
    first = difference(candidate, baseline, crossed(0.95, 300, 1))
    assert first == difference(candidate, baseline, crossed(0.95, 300, 1))
    assert first != difference(candidate, baseline, crossed(0.95, 300, 2))


def test_interval_of_an_accuracy_has_the_width_of_the_binomial():
    correct = answers(1, 1000, 0.9, 11)
    found = accuracy_estimate(correct, crossed(0.95, 20_000, 0))
    share = correct.mean()
    assert found.mean == pytest.approx(100 * share)
    half = 100 * 1.96 * math.sqrt(share * (1 - share) / 1000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)


# cross-validation: each run has test images of its own


def test_cross_validated_mean_is_over_all_images_however_large_the_folds():
    candidate = [np.array([1, 1, 1, 0], dtype=bool), np.array([0, 1], dtype=bool)]  # 4 of 6
    baseline = [np.array([1, 0, 1, 0], dtype=bool), np.array([0, 0], dtype=bool)]  # 2 of 6
    found = difference(candidate, baseline, nested(0.95, 200, 0))
    assert found.mean == pytest.approx(100 * 2 / 6)
    assert found.runs == 2


def test_standard_error_over_folds_follows_the_closed_form_of_two_stage_sampling():
    gained = np.random.default_rng(6).integers(-1, 2, (5, 400))
    gained[0] = np.abs(gained[0])
    folds, images = gained.shape
    # the mean of k folds drawn with replacement, each the mean of n of its images drawn so too
    between, within = gained.mean(axis=1).var(), gained.var(axis=1).mean() / images
    expected = 100 * math.sqrt((between + within) / folds)
    found = difference(list(gained > 0), list(gained < 0), nested(0.95, 40_000, 0))
    assert found.standard_error == pytest.approx(expected, rel=0.02)


def test_two_level_bootstrap_draws_as_one_image_at_a_time_would():
    generator = np.random.default_rng(12)
    folds = [generator.integers(-1, 2, size) for size in (30, 45, 60, 20)]
    slow = []
    for _ in range(4000):
        drawn = [folds[fold] for fold in generator.integers(0, len(folds), len(folds))]
        slow.append(np.concatenate([generator.choice(fold, len(fold)) for fold in drawn]).mean())
    fast = nested_means(folds, 40_000, np.random.default_rng(0))
    assert fast.std() == pytest.approx(np.std(slow), rel=0.05)
    tails = [0.025, 0.5, 0.975]
    assert np.quantile(fast, tails) == pytest.approx(np.quantile(slow, tails), abs=0.015)


def test_the_same_answers_on_other_images_are_surer_than_on_the_same_images():
    run = np.tile([1, -1], 200)  # mean 0, variance 1
    twice = [run, run]
    same_images = crossed_means(twice, 40_000, np.random.default_rng(0))
    other_images = nested_means(twice, 40_000, np.random.default_rng(0))
    assert same_images.std() == pytest.approx(math.sqrt(1 / 400), rel=0.02)
    assert other_images.std() == pytest.approx(math.sqrt(1 / 800), rel=0.02)


def test_one_fold_is_a_plain_bootstrap():
    run = np.random.default_rng(13).integers(-1, 2, 500)
    theirs = stats.bootstrap(
        (run,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=5
    ).confidence_interval
    found = np.quantile(nested_means([run], 20_000, np.random.default_rng(0)), [0.05, 0.95])
    assert found == pytest.approx([theirs.low, theirs.high], abs=0.003)


def test_influence_of_images_and_equal_folds_is_that_of_the_jackknife():
    folds = [*np.random.default_rng(14).integers(0, 2, (4, 40))]
    fold_influences, image_influences = nested_influences(folds)
    without_fold = np.array(
        [np.concatenate(folds[:k] + folds[k + 1 :]).mean() for k in range(len(folds))]
    )
    assert fold_influences == pytest.approx(3 * (without_fold.mean() - without_fold))
    for fold, influences in zip(folds, np.split(image_influences, 4), strict=True):
        without_image = np.array([np.delete(fold, n).mean() for n in range(len(fold))])
        assert influences == pytest.approx(39 * (without_image.mean() - without_image))


def test_influence_of_unequal_folds_is_how_the_mean_moves_when_one_is_drawn_more_often():
    generator = np.random.default_rng(14)
    folds = [generator.integers(0, 2, size) for size in (10, 200, 45, 80)]
    totals, sizes = np.array([(fold.sum(), len(fold)) for fold in folds]).T
    step = 1e-7
    for fold, influence in enumerate(nested_influences(folds)[0]):
        shares = np.full(4, (1 - step) / 4)
        shares[fold] += step
        moved = (shares @ totals) / (shares @ sizes) - totals.sum() / sizes.sum()
        assert influence == pytest.approx(moved / step, abs=1e-5)


def test_runs_on_different_images_are_no_pair():
    candidate, baseline = answers(3, 10, 0.5, 0), answers(2, 10, 0.5, 0)
    with pytest.raises(ValueError, match="same images in each run"):
        paired_gains(candidate, baseline)
    with pytest.raises(ValueError, match="same images in each run"):
        paired_gains(candidate, [run[:9] for run in candidate])


def test_a_run_without_images_is_an_error():
    with pytest.raises(ValueError, match="none of them empty"):
        accuracy_estimate([np.ones(3, bool), np.ones(0, bool)], nested(0.95, 100, 0))


# a single class


def test_difference_of_recall_is_that_of_the_class_alone():
    candidate, baseline = answers(3, 400, 0.9, 15), answers(3, 400, 0.8, 16)
    member = np.arange(400) % 5 == 2
    gains = paired_gains(candidate, baseline)
    found = recall_difference(gains, [member] * 3, crossed(0.95, 500, 0))
    alone = difference(candidate[:, member], baseline[:, member], crossed(0.95, 500, 0))
    assert found == alone
    recalls = [100 * run[:, member].mean() for run in (candidate, baseline)]
    assert found.mean == pytest.approx(recalls[0] - recalls[1])


def test_folds_without_the_class_are_left_out():
    gains = [np.array([1, 0, -1], np.int8), np.array([0, 1], np.int8)]
    member = [np.array([True, True, False]), np.array([False, False])]
    found = recall_difference(gains, member, nested(0.95, 500, 0))
    assert (found.mean, found.runs) == (50.0, 1)
    missing = recall_difference(gains, [~run & False for run in member], nested(0.95, 500, 0))
    assert math.isnan(missing.mean)
    assert math.isnan(missing.low)
    assert missing.runs == 0
