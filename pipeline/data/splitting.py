"""Dividing the images into training, validation and test."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import train_test_split

from pipeline.data.arrays import SPLITS, Division
from pipeline.data.collection import Collection
from pipeline.errors import InputError


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


def _too_few(collection: Collection) -> str:
    counts = np.bincount(collection.labels, minlength=len(collection.classes))
    smallest = int(counts.argmin())
    return (
        f"params.yaml: split: class '{collection.classes[smallest]}' has {counts[smallest]} "
        "images, too few for at least one each in training, validation and test at these "
        "fractions; add images of it, or raise split.validation_fraction or split.test_fraction"
    )
