"""Dividing the images into training, validation and test, once or for each of k folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from pipeline.data.arrays import SPLITS
from pipeline.data.collection import Collection
from pipeline.system.errors import InputError
from pipeline.system.text import printable


@dataclass(frozen=True)
class Division:
    """Which images of a collection are used, and for what.

    Attributes:
        rows: int64 (M,), rows of the collection, ascending.
        split: str (M,), one of `SPLITS` for each; with k folds (M, k), column r for run r.
        fold: int64 (M,), the run that tests the image; None without folds.
    """

    rows: np.ndarray
    split: np.ndarray
    fold: np.ndarray | None = None

    @property
    def places(self) -> np.ndarray:
        """Return str (M,), the fold of each image ("0"), or without folds its split."""
        return self.split if self.fold is None else self.fold.astype(str)


def divide(
    collection: Collection,
    *,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
    max_per_class: int | None,
) -> Division:
    """Divide a collection, each class in the same proportions.

    The official test set is the test split where there is one, else `test_fraction` of all images
    is drawn. Validation is `validation_fraction` of the images that are left for training.

    Args:
        collection: the images.
        seed: of the draw; the same seed and labels give the same division.
        validation_fraction: between 0 and 1.
        test_fraction: between 0 and 1.
        max_per_class: most images of a class in each split, None for all. A smaller number takes
            a subset of what a larger one takes.

    Raises:
        InputError: if a class has too few images to be in all three splits.
    """
    labels = collection.labels
    everything = np.arange(len(labels))
    try:
        if collection.official_test is None:
            training, test = _stratified(everything, labels, test_fraction, seed)
        else:
            test = everything[collection.official_test]
            training = everything[~collection.official_test]
        train, validation = _stratified(training, labels, validation_fraction, seed)
    except ValueError:  # scikit-learn: fewer images than classes, or a class with a single image
        raise InputError(_too_few(collection)) from None
    drawn = dict(zip(SPLITS, (train, validation, test), strict=True))
    for rows in drawn.values():
        if len(np.unique(labels[rows])) < len(collection.classes):
            raise InputError(_too_few(collection))
    if max_per_class is not None:
        drawn = {name: _first(rows, labels[rows], max_per_class) for name, rows in drawn.items()}
    rows = np.concatenate(list(drawn.values()))
    split = np.repeat(np.array(SPLITS), [len(drawn[name]) for name in SPLITS])
    order = np.argsort(rows)
    return Division(rows[order], split[order])


def divide_into_folds(
    collection: Collection,
    *,
    seed: int,
    folds: int,
    validation_fraction: float,
    max_per_class: int | None,
) -> Division:
    """Divide a collection for k-fold cross-validation, each class in the same proportions.

    Run r tests on fold r, so that every image is tested once. What is left to a run is divided
    into training and validation by a draw of its own. All images are divided: an official test set
    is pooled with the rest, and the source's own division has no effect.

    Args:
        collection: the images.
        seed: of all draws; the same seed and labels give the same division.
        folds: the number k of folds and of runs.
        validation_fraction: of the images that a run doesn't test, between 0 and 1.
        max_per_class: most images of a class in each fold, None for all; the others are in no run.
            A smaller number takes folds that are subsets of those that a larger one takes.

    Raises:
        InputError: if a class has too few images to be in every fold, and in training and
            validation of every run.
    """
    labels = collection.labels
    counts = np.bincount(labels, minlength=len(collection.classes))
    if counts.min() < folds:
        raise InputError(_too_few_for_folds(collection, folds))
    fold = np.empty(len(labels), np.int64)
    folding = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for run, (_, tested) in enumerate(folding.split(labels, labels)):
        fold[tested] = run
    rows = np.arange(len(labels))
    if max_per_class is not None:
        shuffled = np.random.default_rng(seed).permutation(rows)
        members = [shuffled[fold[shuffled] == run] for run in range(folds)]
        rows = np.sort(
            np.concatenate([_first(each, labels[each], max_per_class) for each in members])
        )
    fold = fold[rows]
    try:
        runs = [
            _run(labels[rows], fold == run, validation_fraction, _seed_of_run(seed, run))
            for run in range(folds)
        ]
    except ValueError:
        raise InputError(_too_few_for_folds(collection, folds)) from None
    return Division(rows, np.stack(runs, axis=1), fold)


def _run(labels: np.ndarray, tested: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the split of each image, str (M,), in the run that tests the `tested` ones.

    Raises:
        ValueError: if a class is missing from one of the splits.
    """
    train, validation = _stratified(np.flatnonzero(~tested), labels, fraction, seed)
    split = np.full(len(labels), SPLITS[-1], dtype=np.array(SPLITS).dtype)
    for name, rows in zip(SPLITS, (train, validation), strict=False):
        if len(np.unique(labels[rows])) < len(np.unique(labels)):
            raise ValueError(f"a class is missing from {name}")
        split[rows] = name
    return split


def _seed_of_run(seed: int, run: int) -> int:
    """Return a seed for one run's own draw."""
    return int(np.random.SeedSequence((seed, run)).generate_state(1)[0])


def _stratified(
    rows: np.ndarray, labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rest of `rows` and a `fraction` of them, each in random order."""
    rest, drawn = train_test_split(
        rows, test_size=fraction, stratify=labels[rows], random_state=seed
    )
    return rest, drawn


def _first(rows: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` rows of each label."""
    return np.concatenate([rows[labels == label][:count] for label in np.unique(labels)])


def _smallest(collection: Collection) -> str:
    """Return which class has the fewest images, and how many, as a message begins."""
    counts = np.bincount(collection.labels, minlength=len(collection.classes))
    smallest = int(counts.argmin())
    name = printable(collection.classes[smallest])
    return f"class '{name}' has {counts[smallest]} images, too few"


def _too_few(collection: Collection) -> str:
    return (
        f"params.yaml: split: {_smallest(collection)} for at least one each in training, "
        "validation and test at these fractions; add images of it, or change "
        "split.validation_fraction or split.test_fraction"
    )


def _too_few_for_folds(collection: Collection, folds: int) -> str:
    return (
        f"params.yaml: split.folds: {folds}: {_smallest(collection)} for at least one each in "
        "every fold, and in training and validation of every run; add images of it, take fewer "
        "folds, or change split.validation_fraction"
    )
