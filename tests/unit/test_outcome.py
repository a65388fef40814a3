from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from pipeline.statistics.gain import Gain, folds_gain, trained_gain
from pipeline.statistics.outcome import Judgement, Outcome, Reason, is_at_chance, judge, read_off
from pipeline.statistics.planning import plan, predicted_half_width
from tests.unit.simulated_gains import WORLDS, World

MARGIN = 0.5


def interval(low: float, high: float) -> Gain:
    right = np.eye(3, 50, dtype=bool)
    return replace(trained_gain(right, right), gain=(low + high) / 2, low=low, high=high)


def simulated(
    world: World, seeds: int, images: int, gain: float = 0.0, spread: float = 0.3, draw: int = 0
) -> Gain:
    generator = np.random.default_rng(draw)
    return trained_gain(*world.experiment("seeds", seeds, images, gain, spread, generator))


# the rule


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.6, 2.0, "pays"),
        (0.5, 2.0, "pays"),
        (0.49, 2.0, "better"),
        (0.01, 0.5, "better"),
        (0.01, 0.49, "does not pay"),  # better than nothing, and surely not worth its price
        (0.0, 2.0, "undecided"),
        (-0.1, 0.5, "undecided"),
        (-0.1, 0.49, "does not pay"),
        (0.0, 0.49, "does not pay"),
        (-2.0, -0.01, "worse"),
        (-2.0, 0.0, "does not pay"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_verdict_is_read_off_the_interval(low: float, high: float, expected: Outcome) -> None:
    assert read_off(interval(low, high), MARGIN) == expected


# the reasons


def test_a_single_seed_is_undecided_for_that_reason() -> None:
    found = trained_gain(np.ones((1, 500), bool), np.zeros((1, 500), bool))
    assert judge(found, MARGIN, 50.0, False) == Judgement("undecided", "a single seed")


def test_networks_at_chance_are_undecided_whatever_the_interval() -> None:
    assert judge(interval(1, 2), MARGIN, 10.0, True) == Judgement("undecided", "networks at chance")


def test_a_set_on_which_a_perfect_candidate_would_be_undecided_is_saturated() -> None:
    generator = np.random.default_rng(0)
    right = generator.random((5, 360)) < 0.995
    perfect = np.ones_like(right)
    found = trained_gain(perfect, right)
    assert read_off(found, MARGIN) == "undecided"
    accuracy = 100 * right.mean()
    assert judge(found, MARGIN, accuracy, False).reason == "a saturated test set"
    assert judge(trained_gain(right, right), MARGIN, accuracy, False).reason == (
        "a saturated test set"
    )


def test_few_images_and_few_seeds_are_told_from_each_other() -> None:
    # 360 images whose gains differ: any number of seeds leaves 2.2 points on either side
    few_images = simulated(World(0.85, own=0.6, candidate=0.5), 5, 360)
    assert judge(few_images, MARGIN, 85.0, False) == Judgement("undecided", "too few images")
    few_seeds = simulated(WORLDS["85 % right, equal spread"], 3, 10_000, 0.5, spread=1.0)
    assert judge(few_seeds, MARGIN, 85.0, False) == Judgement("undecided", "too few seeds")


def test_undecided_folds_have_little_power() -> None:
    folds = folds_gain([np.repeat([1, -1, 0], [5, 4, 91])] * 5)
    reason = judge(folds, MARGIN, 85.0, False).reason
    assert reason == "cross-validation has little power"


def test_decided_pairs_have_no_reason() -> None:
    assert judge(interval(0.6, 2.0), MARGIN, 85.0, False) == Judgement("pays", None)
    assert len(get_args(Reason)) == 7


# guessing


@pytest.mark.parametrize("seed", range(5))
def test_random_answers_are_at_chance_and_learnt_ones_are_not(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, 1000)
    guesses = generator.integers(0, 10, (3, 1000))
    assert is_at_chance(guesses == labels, labels)
    learnt = np.where(generator.random((3, 1000)) < 0.2, labels, guesses)
    assert not is_at_chance(learnt == labels, labels)


def test_answering_the_most_frequent_class_is_chance_and_rare_classes_found_are_not() -> None:
    labels = np.repeat([0, 1], [900, 100])
    majority = np.tile(labels == 0, (3, 1))
    assert is_at_chance(majority, labels)
    # no more often right than the majority, but both classes are found
    balanced = majority.copy()
    balanced[:, :70] = False
    balanced[:, 920:] = True
    assert not is_at_chance(balanced, labels)


# what would decide


@pytest.mark.parametrize("seed", range(5))
def test_predicted_width_of_the_same_experiment_is_its_own(seed: int) -> None:
    found = simulated(WORLDS["70 % right, images differ much in their gain"], 5, 1000, draw=seed)
    assert predicted_half_width(found, 5, 1000) == pytest.approx(found.high - found.gain)


def test_planned_seeds_are_the_fewest_that_are_predicted_to_decide() -> None:
    found = simulated(WORLDS["85 % right, equal spread"], 5, 10_000, spread=1.0)
    made = plan(found, MARGIN)
    assert made.seeds is not None
    assert made.seeds > 5
    assert not made.too_few_images
    assert predicted_half_width(found, made.seeds, 10_000) <= MARGIN
    assert predicted_half_width(found, made.seeds - 1, 10_000) > MARGIN
    assert made.images is None  # five seeds that differ by a point never show half a point


def test_planned_images_are_the_fewest_that_are_predicted_to_decide() -> None:
    found = simulated(WORLDS["85 % right, equal spread"], 5, 1000, spread=0.1)
    made = plan(found, margin=1.0)
    assert made.images is not None
    assert made.images > 1000
    assert predicted_half_width(found, 5, made.images) <= 1.0
    assert predicted_half_width(found, 5, made.images - 1) > 1.0


def test_where_the_interval_is_as_narrow_as_the_margin_half_of_it_is_planned_for() -> None:
    """With less, both 0 and the margin may lie in it, and the present seeds would be the plan."""
    found = simulated(WORLDS["85 % right, equal spread"], 5, 10_000, spread=0.1)
    margin = 1.01 * (found.high - found.gain)
    made = plan(found, margin)
    assert made.half_width == margin / 2
    assert made.seeds is None or made.seeds > 5
    assert made.images is not None
    assert predicted_half_width(found, 5, made.images) <= margin / 2
    assert predicted_half_width(found, 5, made.images - 1) > margin / 2


def test_folds_and_single_seeds_have_no_plan() -> None:
    for found in (folds_gain([np.zeros(9, int)] * 3), simulated(WORLDS[next(iter(WORLDS))], 1, 99)):
        with pytest.raises(ValueError, match="several seeds"):
            plan(found, MARGIN)
