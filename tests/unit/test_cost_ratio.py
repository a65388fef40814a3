"""Differences of cost: the interval is SciPy's, and errs no more often than it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics.cost_ratio import ERROR, ROUNDS, cheaper, cost_ratio


@pytest.mark.parametrize("rounds", range(6, 20))
def test_difference_is_claimed_where_scipys_sign_test_rejects(rounds: int) -> None:
    baseline = np.linspace(1, 2, rounds)  # a machine that grows slower
    for slower in range(rounds + 1):
        factors = np.where(np.arange(rounds) < slower, 1.1, 1 / 1.1)
        p = stats.binomtest(slower, rounds).pvalue
        assert cost_ratio(factors * baseline, baseline).differs == (p < ERROR)


@pytest.mark.parametrize("rounds", range(1, 6))
def test_too_few_rounds_tell_nothing(rounds: int) -> None:
    found = cost_ratio(np.full(rounds, 2.0), np.ones(rounds))
    assert (found.ratio, found.low, found.high) == (2, 0, np.inf)
    assert not found.differs


def test_networks_that_cost_the_same_are_told_apart_in_less_than_5_percent() -> None:
    generator = np.random.default_rng(0)
    # disturbed now and then, by far, as a machine with other work on it
    disturbed = generator.random((4000, 2, ROUNDS)) < 0.1
    noise = generator.normal(0, 0.02, disturbed.shape) + disturbed * generator.exponential(
        1, disturbed.shape
    )
    costs = np.exp(noise)
    claimed = np.mean([cost_ratio(one, other).differs for one, other in costs])
    assert claimed < ERROR
    slower = np.mean([cost_ratio(1.05 * one, other).differs for one, other in costs])
    assert slower > 0.5


def test_interval_holds_the_ratio_of_the_medians() -> None:
    generator = np.random.default_rng(1)
    for one, other in np.exp(generator.normal(0, 0.5, (500, 2, ROUNDS))):
        found = cost_ratio(one, other)
        assert found.ratio == pytest.approx(np.median(one) / np.median(other))
        assert found.low <= found.ratio <= found.high
        assert found.is_scattered == (found.high / found.low > 1.1)


def test_the_lower_of_two_costs_is_the_one_with_the_lower_median() -> None:
    generator = np.random.default_rng(2)
    costs = [*np.exp(generator.normal(0, 0.3, (30, ROUNDS)))]
    lower = cheaper(costs)
    medians = np.array([np.median(cost) for cost in costs])
    assert lower.any()
    assert not (lower & ~(medians < medians[:, None])).any()
    second = [False, True, False]
    assert cheaper([3.0, 2.0, 3.0]).tolist() == [second, [False] * 3, second]
