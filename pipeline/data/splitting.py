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
    """Which images of a collection are used, and for what."""

    rows: np.ndarray  # int64 (M,), rows of the collection, ascending
    split: np.ndarray  # str (M,), one of `SPLITS` for each; with k folds (M, k), column r for run r
    fold: np.ndarray | None = None  # int64 (M,), the run that tests the image; None without folds

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
    is drawn. Validation is `validation_fraction` of the rest.

    Of a class each split gets at most `max_per_class` images; a smaller number takes a subset of
    what a larger one takes. The same seed and labels give the same division.

    Raises:
        InputError: if a class has too few images to be in all three splits.
    """
    labels = collection.labels
    too_few = _too_few(
        collection,
        "split",
        "training, validation and test at these fractions; add images of it, or change "
        "split.validation_fraction or split.test_fraction",
    )
    everything = np.arange(len(labels))
    try:
        if collection.official_test is None:
            training, test = _stratified(everything, labels, test_fraction, seed)
        else:
            test = everything[collection.official_test]
            training = everything[~collection.official_test]
        train, validation = _stratified(training, labels, validation_fraction, seed)
    except ValueError:  # scikit-learn: fewer images than classes, or a class with a single image
        raise too_few from None
    drawn = dict(zip(SPLITS, (train, validation, test), strict=True))
    for rows in drawn.values():
        if len(np.unique(labels[rows])) < len(collection.classes):
            raise too_few
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
    into training and validation by a draw of its own, with `validation_fraction` of it. An official
    test set is pooled with the rest.

    Of a class each fold gets at most `max_per_class` images; the others are in no run. A smaller
    number takes subsets of what a larger one takes. The same seed and labels give the same folds.

    Raises:
        InputError: if a class has too few images to be in every fold, and in training and
            validation of every run.
    """
    labels = collection.labels
    too_few = _too_few(
        collection,
        f"split.folds: {folds}",
        "every fold, and in training and validation of every run; add images of it, take fewer "
        "folds, or change split.validation_fraction",
    )
    counts = np.bincount(labels, minlength=len(collection.classes))
    if counts.min() < folds:
        raise too_few
    fold = np.empty(len(labels), np.int64)
    folding = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for run, (_, tested) in enumerate(folding.split(labels, labels)):
        fold[tested] = run
    rows = np.arange(len(labels))
    if max_per_class is not None:
        shuffled = np.random.default_rng(seed).permutation(rows)
        members = [shuffled[fold[shuffled] == run] for run in range(folds)]
        first = [_first(each, labels[each], max_per_class) for each in members]
        rows = np.sort(np.concatenate(first))
    fold, labels = fold[rows], labels[rows]
    split = np.full((len(rows), folds), SPLITS[-1], dtype=np.array(SPLITS).dtype)
    for run in range(folds):
        own_seed = int(np.random.SeedSequence((seed, run)).generate_state(1)[0])
        try:
            parts = _stratified(np.flatnonzero(fold != run), labels, validation_fraction, own_seed)
        except ValueError:
            raise too_few from None
        for name, part in zip(SPLITS, parts, strict=False):
            if len(np.unique(labels[part])) < len(collection.classes):
                raise too_few
            split[part, run] = name
    return Division(rows, split, fold)


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


def _too_few(collection: Collection, setting: str, change: str) -> InputError:
    """Return the error that names the class with the fewest images."""
    counts = np.bincount(collection.labels, minlength=len(collection.classes))
    smallest = int(counts.argmin())
    return InputError(
        f"params.yaml: {setting}: class '{printable(collection.classes[smallest])}' has "
        f"{counts[smallest]} images, too few for at least one each in {change}"
    )
