"""Dividing the images into training, validation and test, once or for each of k folds."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from pipeline.data.arrays import SPLITS
from pipeline.data.collection import Collection
from pipeline.system.errors import InputError
from pipeline.system.text import plural, printable

MOST_FOLDS = 20  # into which groups are dealt to draw a fraction of them
MOST_DEALS = 20  # tried after the first to give each fold, or each part of a draw, all classes


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
    """Divide a collection, each class in the same proportions, no group in two splits.

    An official split stays as it is. Of the images for training `test_fraction` is drawn for the
    test split if there is no official one, and then `validation_fraction` of the rest for
    validation, if there is no official one. Of grouped images the fractions are approximate.

    Of a class each split gets at most `max_per_class` images; a smaller number takes a subset of
    what a larger one takes. The same seed, labels and groups give the same division.

    Raises:
        InputError: if a class has too few images or groups to be in all three splits, or groups
            could not be dealt so.
    """
    labels, groups = collection.labels, collection.groups
    everything = np.arange(len(labels))
    if collection.official is None:
        drawn = {"train": everything}
    else:
        drawn = {name: everything[collection.official == name] for name in SPLITS}
        drawn = {name: rows for name, rows in drawn.items() if len(rows)}
    others = [name for name in SPLITS[1:] if name not in drawn]
    too_few = partial(
        _too_few,
        collection,
        rows=drawn["train"],
        setting="split",
        places=f"{' and '.join(['training', *others])} at these fractions",
        change=" or ".join(f"split.{name}_fraction" for name in others),
    )
    try:
        for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
            if name not in drawn:
                left = 2 if name == "test" and "validation" not in drawn else 1
                rest, part = _draw(drawn["train"], labels, groups, fraction, seed, left)
                drawn |= {"train": rest, name: part}
    except ValueError:  # fewer images than classes, or a class with a single image or group
        raise too_few() from None
    drawn = {name: drawn[name] for name in SPLITS}
    for rows in drawn.values():
        if len(np.unique(labels[rows])) < len(collection.classes):
            raise too_few()
    if max_per_class is not None:
        generator = np.random.default_rng(seed)  # those of official splits are in order
        drawn = {
            name: _first(generator.permutation(rows), labels, max_per_class)
            for name, rows in drawn.items()
        }
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

    No group lies in two folds, nor in training and validation of a run.

    Run r tests on fold r, so that every image is tested once. What is left to a run is divided
    into training and validation by a draw of its own, with `validation_fraction` of it. An official
    split is pooled.

    Of a class each fold gets at most `max_per_class` images; the others are in no run. A smaller
    number takes subsets of what a larger one takes. The same seed, labels and groups give the same
    folds.

    Raises:
        InputError: if a class has too few images or groups to be in every fold, and in training and
            validation of every run, or groups could not be dealt so.
    """
    labels, groups = collection.labels, collection.groups
    rows = np.arange(len(labels))
    too_few = partial(
        _too_few,
        collection,
        rows=rows,
        setting=f"split.folds: {folds}",
        places="every fold, and in training and validation of every run",
        change="split.validation_fraction, or take fewer folds",
    )
    try:
        fold = _deal(labels, groups, np.arange(folds), seed, [1] * folds)
    except ValueError:
        raise too_few() from None
    if max_per_class is not None:
        shuffled = np.random.default_rng(seed).permutation(rows)
        members = [shuffled[fold[shuffled] == run] for run in range(folds)]
        first = [_first(each, labels, max_per_class) for each in members]
        rows = np.sort(np.concatenate(first))
        too_few = partial(
            too_few,
            rows=rows,
            setting=f"split.folds: {folds}, split.max_per_class: {max_per_class}",
            change="split.max_per_class, split.validation_fraction, or take fewer folds",
        )
    fold, labels = fold[rows], labels[rows]
    groups = None if groups is None else groups[rows]
    split = np.full((len(rows), folds), SPLITS[-1], dtype=np.array(SPLITS).dtype)
    for run in range(folds):
        own_seed = int(np.random.SeedSequence((seed, run)).generate_state(1)[0])
        try:
            rest = np.flatnonzero(fold != run)
            parts = _draw(rest, labels, groups, validation_fraction, own_seed)
        except ValueError:
            raise too_few() from None
        for name, part in zip(SPLITS, parts, strict=False):
            if len(np.unique(labels[part])) < len(collection.classes):
                raise too_few()
            split[part, run] = name
    return Division(rows, split, fold)


def _draw(
    rows: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    fraction: float,
    seed: int,
    left: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rest of `rows` and a `fraction` of them, each class in the same proportions.

    Groups are dealt to as few folds as make up the fraction, some of which are drawn. The rest
    keeps at least `left` groups of each class. Where a class of few groups can't be dealt so, there
    are no more folds than it has groups, and the fraction is a rough one.

    Raises:
        ValueError: if a class has fewer than two images, or no more than `left` groups.
        InputError: if no deal of the groups gives the rest and the drawn all classes.
    """
    if groups is None:
        rest, drawn = train_test_split(
            rows, test_size=fraction, stratify=labels[rows], random_state=seed
        )
        return rest, drawn
    labels, groups = labels[rows], groups[rows]

    def deal(most: int) -> np.ndarray:
        most = min(MOST_FOLDS, most)
        share = Fraction(fraction).limit_denominator(most)
        share = min(max(share, Fraction(1, most)), Fraction(most - 1, most))
        is_drawn_fold = np.arange(share.denominator) < share.numerator
        return _deal(labels, groups, is_drawn_fold, seed, [left, 1])

    counts = _groups_per_class(labels, groups)
    try:
        is_drawn = deal(max(counts))
    except InputError:
        is_drawn = deal(min(counts))
    return rows[~is_drawn], rows[is_drawn]


def _deal(
    labels: np.ndarray,
    groups: np.ndarray | None,
    places: np.ndarray,
    seed: int,
    least: list[int],
) -> np.ndarray:
    """Deal images into folds, each class in the same proportions, no group in two.

    `places` (k,) says where each of k folds belongs; the place of each image is returned, (N,).

    Each place needs groups of every class, as many as `least` (in the order of the places) says.
    Groups are dealt one by one to where they fit best, which may leave a place without a class that
    it could have: then they are dealt again, in another order.

    Raises:
        ValueError: if a class has fewer images than there are folds, or fewer groups than the
            places need.
        InputError: if no deal of the groups was found that gives each place all classes.
    """
    folds = len(places)
    if groups is None:
        if np.bincount(labels)[np.unique(labels)].min() < folds:
            raise ValueError("a class has fewer images than there are folds")
        return places[_dealt(StratifiedKFold(folds, shuffle=True, random_state=seed), labels, None)]
    fewest = min(_groups_per_class(labels, groups))
    if fewest < sum(least):
        raise ValueError("a class has fewer groups than the places need")
    classes = len(np.unique(labels))
    orders = [seed, *np.random.SeedSequence(seed).generate_state(MOST_DEALS)]
    for order in orders:
        dealing = StratifiedGroupKFold(folds, shuffle=True, random_state=int(order))
        place = places[_dealt(dealing, labels, groups)]
        for each, needed in zip(np.unique(places), least, strict=True):
            counts = _groups_per_class(labels[place == each], groups[place == each])
            if len(counts) < classes or min(counts) < needed:
                break
        else:
            return place
        # groups of few images end in the same folds, in whatever order they are dealt
        places = np.random.default_rng(order).permutation(places)
    raise InputError(
        f"params.yaml: split: each class has images of {fewest} groups or more, but in none of "
        f"{len(orders)} orders could the {len(np.unique(groups))} groups be dealt so that each "
        "place gets images of every class, since a group lies in one place only; change "
        "split.seed, the fractions or the folds, or add images of other groups"
    )


def _dealt(
    dealing: StratifiedKFold | StratifiedGroupKFold, labels: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    fold = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # it warns of a class with fewer images than folds; `_deal` looks at places
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, members) in enumerate(dealing.split(labels, labels, groups)):
            fold[members] = number
    return fold


def _groups_per_class(labels: np.ndarray, groups: np.ndarray) -> list[int]:
    """Return of how many groups the images of each class are."""
    return [len(np.unique(groups[labels == label])) for label in np.unique(labels)]


def _first(rows: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` of `rows` of each label; `labels` are those of all rows."""
    return np.concatenate([rows[labels[rows] == label][:count] for label in np.unique(labels)])


def _too_few(
    collection: Collection, rows: np.ndarray, setting: str, places: str, change: str
) -> InputError:
    """Return the error that names the class with the fewest images, or groups with their names.

    `rows` are those that should be divided.
    """
    labels = collection.labels[rows]
    counts = np.bincount(labels, minlength=len(collection.classes))
    if collection.groups is None:
        smallest = int(counts.argmin())
        return InputError(
            f"params.yaml: {setting}: class '{printable(collection.classes[smallest])}' has "
            f"{counts[smallest]} images, too few for at least one each in {places}; add images of "
            f"it, or change {change}"
        )
    by_class = [
        Counter(collection.groups[rows][labels == label].tolist())
        for label in range(len(collection.classes))
    ]
    smallest = min(range(len(by_class)), key=lambda label: len(by_class[label]))
    found = by_class[smallest]
    named = [f"'{printable(str(name))}' of {count}" for name, count in found.most_common(3)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return InputError(
        f"params.yaml: {setting}: class '{printable(collection.classes[smallest])}' has its "
        f"{counts[smallest]} images in {plural(len(found), 'group')} ({', '.join(named)}{more}), "
        f"and a group lies in one place only: too few for {places}; add images of other groups, or "
        f"change {change}"
    )
