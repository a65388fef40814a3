from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.statistics import (
    Bootstrap,
    Difference,
    accuracy_estimate,
    crossed_means,
    nested_means,
    paired_difference,
    verdict,
)


def crossed(confidence: float, resamples: int, seed: int) -> Bootstrap:
    return Bootstrap(crossed_means, confidence, resamples, seed)


def nested(confidence: float, resamples: int, seed: int) -> Bootstrap:
    return Bootstrap(nested_means, confidence, resamples, seed)


def answers(seeds: int, images: int, accuracy: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < accuracy


def difference(low: float, high: float) -> Difference:
    return Difference((low + high) / 2, low, high, 0.1, 0.95, 3)


def test_mean_is_the_difference_of_the_accuracies_in_points():
    candidate = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool)  # 5 of 8
    baseline = np.array([[1, 0, 1, 0], [0, 1, 0, 0]], dtype=bool)  # 3 of 8
    found = paired_difference(candidate, baseline, crossed(0.95, 200, 0))
    assert found.mean == pytest.approx(25.0)
    assert found.runs == 2


def test_standard_error_of_one_seed_is_that_of_a_mean_of_paired_differences():
    candidate, baseline = answers(1, 2000, 0.85, 1), answers(1, 2000, 0.8, 2)
    gained = candidate[0].astype(float) - baseline[0].astype(float)
    expected = 100 * math.sqrt(gained.var() / 2000)
    found = paired_difference(candidate, baseline, crossed(0.95, 20_000, 0))
    assert found.standard_error == pytest.approx(expected, rel=0.02)


def test_interval_of_one_seed_is_scipys_percentile_bootstrap():
    candidate, baseline = answers(1, 500, 0.9, 3), answers(1, 500, 0.85, 4)
    gained = 100 * (candidate[0].astype(float) - baseline[0].astype(float))
    theirs = stats.bootstrap(
        (gained,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=5
    ).confidence_interval
    ours = paired_difference(candidate, baseline, crossed(0.9, 20_000, 0))
    assert ours.low == pytest.approx(theirs.low, abs=0.2)
    assert ours.high == pytest.approx(theirs.high, abs=0.2)


def test_standard_error_over_images_and_seeds_follows_the_two_way_closed_form():
    gained = np.random.default_rng(6).integers(-1, 2, (5, 400))
    seeds, images = gained.shape
    # the variance of sum(w_s v_n d_sn) / (S N) for independent multinomial weights w and v
    between_seeds = gained.mean(axis=1).var() / seeds
    between_images = gained.mean(axis=0).var() / images
    centred = gained - gained.mean(axis=1, keepdims=True) - gained.mean(axis=0) + gained.mean()
    interaction = (centred**2).mean() / (seeds * images)
    expected = 100 * math.sqrt(between_seeds + between_images + interaction)
    found = paired_difference(gained > 0, gained < 0, crossed(0.95, 40_000, 0))
    assert found.standard_error == pytest.approx(expected, rel=0.02)


def test_pairing_matters():
    baseline = answers(3, 1000, 0.8, 7)
    candidate = baseline.copy()
    candidate[:, :10] = True
    paired = paired_difference(candidate, baseline, crossed(0.95, 2000, 0))
    shuffled = paired_difference(candidate[:, ::-1], baseline, crossed(0.95, 2000, 0))
    assert paired.mean == pytest.approx(shuffled.mean)
    assert paired.standard_error < shuffled.standard_error / 5


def test_identical_networks_differ_by_exactly_nothing():
    correct = answers(3, 100, 0.9, 8)
    found = paired_difference(correct, correct.copy(), crossed(0.95, 500, 0))
    assert (found.mean, found.low, found.high, found.standard_error) == (0, 0, 0, 0)
    assert verdict(found, margin=0.5) == "undecided"  # no disagreement seen is not none there
    assert verdict(found, margin=0.0) == "undecided"


def test_the_same_seed_gives_the_same_interval():
    candidate, baseline = answers(3, 200, 0.9, 9), answers(3, 200, 0.85, 10)
    first = paired_difference(candidate, baseline, crossed(0.95, 300, 1))
    assert first == paired_difference(candidate, baseline, crossed(0.95, 300, 1))
    assert first != paired_difference(candidate, baseline, crossed(0.95, 300, 2))


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
    found = paired_difference(candidate, baseline, nested(0.95, 200, 0))
    assert found.mean == pytest.approx(100 * 2 / 6)
    assert found.runs == 2


def test_standard_error_over_folds_follows_the_closed_form_of_two_stage_sampling():
    gained = np.random.default_rng(6).integers(-1, 2, (5, 400))
    gained[0] = np.abs(gained[0])
    folds, images = gained.shape
    # the mean of k folds drawn with replacement, each the mean of n of its images drawn so too
    between, within = gained.mean(axis=1).var(), gained.var(axis=1).mean() / images
    expected = 100 * math.sqrt((between + within) / folds)
    found = paired_difference(list(gained > 0), list(gained < 0), nested(0.95, 40_000, 0))
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


def test_the_same_answers_on_other_images_tell_more_than_on_the_same_images():
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


@pytest.mark.parametrize("make", [crossed, nested])
def test_runs_on_different_images_are_no_pair(make: Callable[[float, int, int], Bootstrap]):
    candidate, baseline = answers(3, 10, 0.5, 0), answers(2, 10, 0.5, 0)
    with pytest.raises(ValueError, match="same images in each run"):
        paired_difference(candidate, baseline, make(0.95, 100, 0))
    with pytest.raises(ValueError, match="same images in each run"):
        paired_difference(candidate, [run[:9] for run in candidate], make(0.95, 100, 0))


def test_a_run_without_images_is_refused():
    with pytest.raises(ValueError, match="none of them empty"):
        accuracy_estimate([np.ones(3, bool), np.ones(0, bool)], nested(0.95, 100, 0))


def test_a_single_seed_decides_nothing():
    for low, high in ((0.1, 2.0), (-1.0, 0.1)):
        assert verdict(replace(difference(low, high), runs=1), margin=0.5) == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 2.0, "pays"),
        (0.1, 0.3, "pays"),
        (0.0, 2.0, "undecided"),
        (-1.0, 0.5, "undecided"),
        (-1.0, 0.49, "does not pay"),
        (-2.0, -1.0, "does not pay"),
        (-1.0, 2.0, "undecided"),
    ],
)
def test_verdict_follows_its_rule(low: float, high: float, expected: str):
    assert verdict(difference(low, high), margin=0.5) == expected
