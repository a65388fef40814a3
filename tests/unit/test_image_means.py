"""Means over images and over random networks: SciPy's intervals, and how often they err."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests

from pipeline.statistics.image_means import (
    mean_differences,
    mean_over_images,
    mean_over_networks_and_images,
)


def test_intervals_are_students_and_stay_where_values_can_be() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, (30, 2))
    found = mean_over_images(values, 0, 1)
    expected = ttest_1samp(values, 0, axis=0).confidence_interval(0.95)
    np.testing.assert_allclose(found.low, expected.low)
    np.testing.assert_allclose(found.high, expected.high)
    cut = mean_over_images(np.array([0.0, 0.0, 1.0]), 0, 1)
    assert (cut.low, cut.high) == (0, 1)
    same = mean_over_images(np.full(5, 0.25), 0, 1)
    assert (same.low, same.high) == (0.25, 0.25)
    single = mean_over_images(np.array([0.25, np.nan]), 0, 1)
    assert (single.mean, single.images) == (0.25, 1)
    assert np.isnan(single.low)
    assert np.isnan(mean_over_images(np.array([np.nan]), 0, 1).mean)


# several differences


@pytest.mark.parametrize("seed", range(10))
def test_interval_of_each_difference_excludes_0_where_holms_p_is_small(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(generator.normal(0, 0.08, 12), 0.1, (15, 12))
    found = mean_differences(values)
    p_values = ttest_1samp(values, 0, axis=0).pvalue
    np.testing.assert_allclose(found.p, p_values)
    rejected, p_holm, _, _ = multipletests(p_values, 0.05, "holm")
    np.testing.assert_allclose(found.p_holm, p_holm)
    np.testing.assert_array_equal((found.low > 0) | (found.high < 0), rejected)


def test_a_single_image_tests_nothing() -> None:
    found = mean_differences(np.array([[0.1, 0.0]]))
    assert found.mean.tolist() == [0.1, 0]
    assert np.isnan([found.low, found.high, found.p, found.p_holm]).all()


def test_any_of_many_differences_that_are_none_is_found_in_a_twentieth_of_experiments() -> None:
    generator = np.random.default_rng(0)
    experiments, wrong = 2000, 0
    for _ in range(experiments):
        common = generator.normal(0, 0.1, (50, 1))  # comparisons of the same images go together
        found = mean_differences(common + generator.normal(0, 0.1, (50, 36)))
        wrong += bool(((found.low > 0) | (found.high < 0)).any())
    # Holm errs in at most 5 %; 6.5 % is three standard errors more
    assert wrong <= 0.065 * experiments


# random networks and images


def two_way(
    generator: np.random.Generator, networks: int, images: int, sds: tuple[float, float, float]
) -> np.ndarray:
    """Return values with mean 0 and these sds of networks, images and what is left over."""
    of_networks, of_images, left_over = sds
    values = generator.normal(0, left_over, (networks, images))
    values += generator.normal(0, of_networks, (networks, 1))
    return values + generator.normal(0, of_images, images)


@pytest.mark.parametrize("networks", [3, 8])
@pytest.mark.parametrize(
    "sds", [(0.1, 0, 0), (0.1, 0.3, 0.3), (0.02, 0.3, 0.3), (0, 0.3, 0), (0, 0, 0.3)]
)
def test_interval_over_networks_and_images_covers(
    networks: int, sds: tuple[float, float, float]
) -> None:
    generator = np.random.default_rng(0)
    experiments, covered = 2000, 0
    for _ in range(experiments):
        values = two_way(generator, networks, 60, sds)
        values[generator.random(values.shape) < 0.1] = np.nan  # maps without a pattern
        found = mean_over_networks_and_images(values, -1, 1)
        covered += bool(found.low < 0 < found.high)
    # 95 % is promised; 93.5 % is three standard errors less
    assert covered >= 0.935 * experiments


def test_interval_of_one_random_network_would_not_cover() -> None:
    """Over images alone, as it was: most of the variance is that of the random weights."""
    generator = np.random.default_rng(0)
    found = [
        mean_over_images(two_way(generator, 1, 100, (0.1, 0.1, 0.1))[0], -1, 1) for _ in range(500)
    ]
    assert np.mean([one.low < 0 < one.high for one in found]) < 0.5


def test_single_values_have_a_mean_without_an_interval() -> None:
    for values in (np.array([[0.1, 0.3]]), np.array([[0.1], [0.3]])):
        found = mean_over_networks_and_images(values, -1, 1)
        assert found.mean == pytest.approx(0.2)
        assert np.isnan(found.low)
        assert np.isnan(found.high)
    assert np.isnan(mean_over_networks_and_images(np.full((2, 2), np.nan), -1, 1).mean)
