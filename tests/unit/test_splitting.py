"""Splits: stratified, disjoint, deterministic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.data.arrays import SPLITS
from pipeline.data.collection import Collection
from pipeline.data.splitting import Division, divide, divide_into_folds
from pipeline.system.errors import InputError


def collection(counts: list[int], test_every: int | None = None) -> Collection:
    """Return a collection with so many images per class, in a mixed order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(0).permutation(labels).astype(np.int64)
    official = None
    if test_every is not None:
        official = np.where(np.arange(len(labels)) % test_every == 0, "test", "train")
    return Collection(
        images=np.zeros((len(labels), 4, 4, 1), np.uint8),
        labels=labels,
        classes=tuple(f"class{number}" for number in range(len(counts))),
        ids=np.arange(len(labels)),
        origins=[f"image{row}" for row in range(len(labels))],
        official=official,
    )


def divided(
    images: Collection, seed: int = 0, fraction: float = 0.2, max_per_class: int | None = None
) -> Division:
    return divide(
        images,
        seed=seed,
        validation_fraction=fraction,
        test_fraction=fraction,
        max_per_class=max_per_class,
    )


def per_class(images: Collection, division: Division, split: str) -> list[int]:
    labels = images.labels[division.rows[division.split == split]]
    return np.bincount(labels, minlength=len(images.classes)).tolist()


def test_every_image_is_in_exactly_one_split_and_rows_keep_the_sources_order() -> None:
    division = divided(collection([100, 50]))
    assert division.rows.tolist() == list(range(150))
    assert set(division.split) == set(SPLITS)


def test_classes_keep_their_proportions_in_every_split() -> None:
    images = collection([500, 250, 50])
    division = divided(images)
    assert per_class(images, division, "test") == [100, 50, 10]
    assert per_class(images, division, "validation") == [80, 40, 8]
    assert per_class(images, division, "train") == [320, 160, 32]


def test_the_official_test_set_is_the_test_split() -> None:
    images = collection([300, 300], test_every=6)
    division = divided(images, fraction=0.1)
    assert division.rows[division.split == "test"].tolist() == list(range(0, 600, 6))
    assert (division.split == "validation").sum() == 50


def test_the_seed_decides_the_division() -> None:
    images = collection([60, 60])
    first = divided(images, seed=1)
    assert np.array_equal(first.split, divided(images, seed=1).split)
    assert not np.array_equal(first.split, divided(images, seed=2).split)


def test_max_per_class_caps_each_class_in_each_split_with_nested_subsets() -> None:
    images = collection([500, 250, 50])
    few, more = (divided(images, max_per_class=count) for count in (9, 20))
    for split in SPLITS:
        assert max(per_class(images, few, split)) <= 9
    assert per_class(images, few, "train") == [9, 9, 9]
    assert per_class(images, few, "validation") == [9, 9, 8]
    everything = divided(images)
    assert set(few.rows) < set(more.rows)
    assert np.array_equal(few.split, everything.split[few.rows])
    assert np.array_equal(few.rows, np.sort(few.rows))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_class_with_too_few_images_is_named(count: int) -> None:
    with pytest.raises(InputError, match=f"'class1' has {count} images, too few") as error:
        divided(collection([100, count]))
    assert "\n" not in str(error.value)


def test_fractions_too_small_for_one_image_per_class_are_an_input_error() -> None:
    with pytest.raises(InputError, match=r"change split\.validation_fraction"):
        divided(collection([10, 10, 10]), fraction=0.05)


def test_too_few_images_are_counted_where_the_draw_is_from() -> None:
    labels = np.repeat([0, 1, 0, 1], [1, 5, 100, 5])
    images = replace(collection([101, 10]), labels=labels)
    images = replace(images, official=np.repeat(["train", "test"], [6, 105]))
    with pytest.raises(InputError, match="'class0' has 1 images, too few") as error:
        divided(images)
    assert "at least one each in training and validation at" in str(error.value)


def test_too_few_groups_are_counted_where_the_draw_is_from() -> None:
    labels, groups = np.repeat([0, 1, 0, 1], 4), np.arange(16)
    groups[:4], groups[12:] = 0, 12  # all of class 0 in training, all of class 1 in the test
    images = replace(grouped(labels, groups), official=np.repeat(["train", "test"], 8))
    with pytest.raises(InputError, match=r"'class0' has its 4 images in 1 group \('p0' of 4\)"):
        divided(images)


def grouped(labels: np.ndarray, groups: np.ndarray) -> Collection:
    """Return a collection of images with these classes, each of a patient."""
    images = collection(np.bincount(labels).tolist())
    return replace(images, labels=labels, groups=np.array([f"p{number}" for number in groups]))


@pytest.mark.parametrize("case", [0, 2, 3, 7])
def test_sixty_patients_are_enough_for_three_classes_in_each_split(case: int) -> None:
    generator = np.random.default_rng(case)
    groups = np.repeat(np.arange(60), generator.integers(1, 4, 60))
    usual = generator.integers(0, 3, 60)[groups]
    labels = np.where(
        generator.random(len(groups)) < 0.6, usual, generator.integers(0, 3, len(groups))
    )
    images = grouped(labels, groups)
    division = divide(
        images, seed=0, validation_fraction=0.15, test_fraction=0.2, max_per_class=None
    )
    parts = [division.rows[division.split == split] for split in SPLITS]
    assert [set(labels[rows]) for rows in parts] == [{0, 1, 2}] * 3
    assert sum(len(set(groups[rows])) for rows in parts) == 60  # none in two
    share = [len(rows) / len(labels) for rows in parts]
    assert share == pytest.approx([0.8 * 0.85, 0.8 * 0.15, 0.2], abs=0.05)


@pytest.mark.filterwarnings("error")  # scikit-learn only warns of a class that misses folds
@pytest.mark.parametrize("seed", [0, 1])
def test_a_class_of_few_groups_leaves_the_fractions_as_asked(seed: int) -> None:
    groups = np.repeat(np.arange(100), 4)
    labels = groups % 2
    labels[[0, 100, 200]] = 2  # a finding in one image of three patients
    division = divide(
        grouped(labels, groups),
        seed=seed,
        validation_fraction=0.15,
        test_fraction=0.2,
        max_per_class=None,
    )
    sizes = [int((division.split == split).sum()) for split in SPLITS]
    assert sizes == pytest.approx([0.8 * 0.85 * 400, 0.8 * 0.15 * 400, 0.2 * 400], abs=4)
    assert sorted(division.split[labels == 2]) == sorted(SPLITS)


def test_groups_that_can_not_be_dealt_are_not_called_too_few() -> None:
    # of three patients in two folds one is alone, and none has all three classes
    images = grouped(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 0]))
    with pytest.raises(InputError, match="each class has images of 2 groups or more") as error:
        divide_into_folds(images, seed=0, folds=2, validation_fraction=0.2, max_per_class=None)
    assert "too few" not in str(error.value)
    assert "none of 21 orders could the 3 groups be dealt" in str(error.value)
