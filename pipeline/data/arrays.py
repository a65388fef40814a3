"""The divided images on disk: arrays to map into memory, and an index that a person can read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import NoReturn

import numpy as np

from pipeline.settings.schema import Settings
from pipeline.storage import records
from pipeline.storage.fingerprint import DESCRIPTION, INDEX, fingerprint
from pipeline.storage.reading import complete_text, load_array, reading, remedy
from pipeline.storage.records import NO_DUPLICATES, Duplicates, NearDuplicates
from pipeline.system.errors import InputError

IMAGES = "images.npy"
LABELS = "labels.npy"
REJECTED = "rejected.csv"
DUPLICATES = "duplicates.csv"
NEAR_DUPLICATES = "near_duplicates.csv"

SPLITS = ("train", "validation", "test")

AGAIN = "delete the folder and run the split stage again (python -m pipeline split)"


@dataclass(frozen=True)
class NearPair:
    """Two images that show the same, in two splits (with folds: in two folds)."""

    rows: tuple[int, int]
    places: tuple[str, str]  # the split of each, or its fold
    origins: tuple[str, str]
    mirrored: bool  # one is the mirror image of the other


@dataclass(frozen=True)
class Dataset:
    """The divided images; with k folds the divisions of all k runs (`for_run` gives one)."""

    name: str  # of the source
    images: np.ndarray  # uint8 (N, H, W, C), mapped from the file and read-only
    labels: np.ndarray  # int64 (N,), positions in `classes`
    # int64 (N,), the position of each image in its source; the same image has the same id whatever
    # the other settings of the split
    ids: np.ndarray
    split: np.ndarray  # str (N,), train, validation or test; of all runs (N, folds)
    classes: tuple[str, ...]  # the names of the classes
    # float32 (C,), to normalise by, for images in [0, 1]: of the training split, or ImageNet's; of
    # all runs (folds, C)
    mean: np.ndarray
    std: np.ndarray  # float32 (C,), the same
    # images by split and class; of all runs by fold ("fold 0") and class
    counts: dict[str, dict[str, int]]
    rejected: int  # how many images can't be used
    # sha256 of the index and the description, the same for the same splits; all runs have the same
    fingerprint: str = ""
    folds: int | None = None  # k of k-fold cross-validation, or None
    fold: np.ndarray | None = None  # int64 (N,), the run that tests the image, or None
    duplicates: Duplicates = NO_DUPLICATES  # images with the same pixels
    near_duplicates: NearDuplicates | None = None  # None where they were not looked for
    near_pairs: tuple[NearPair, ...] = ()
    official: tuple[str, ...] = ()  # the splits that the source gives
    groups: int | None = None  # how many groups the images are of, none in two splits; or None
    group: np.ndarray | None = None  # str (N,), the group of each image, or None

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.images.shape[-1])

    def for_run(self, seed: int) -> Dataset:
        """Return the data set as the run with this seed sees it: with folds, run r tests on fold r.

        Raises:
            InputError: if there are folds, but none for this run.
            ValueError: if this is one run's already.
        """
        if self.folds is None:
            return self
        if self.split.ndim == 1:
            raise ValueError("the data set is one run's already; ask the one that was read")
        if not 0 <= seed < self.folds:
            raise InputError(
                f"seed {seed}: the splits have {self.folds} folds, for the seeds 0 to "
                f"{self.folds - 1}; change seeds or split.folds in params.yaml and run the split "
                "stage (python -m pipeline split)"
            )
        split = self.split[:, seed]
        return replace(
            self,
            split=split,
            mean=self.mean[seed],
            std=self.std[seed],
            counts=count(split, self.labels, SPLITS, self.classes),
        )

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of a split, ascending.

        Raises:
            ValueError: if there is no such split, or one for every run (see `for_run`).
        """
        if split not in SPLITS:
            raise ValueError(f"split is '{split}', expected one of {', '.join(SPLITS)}")
        if self.split.ndim != 1:
            raise ValueError(f"with folds each run has its own '{split}'; take for_run(seed) first")
        return np.flatnonzero(self.split == split)


def read(folder: Path, settings: Settings | None = None) -> Dataset:
    """Open the divided images in the split stage's `folder`.

    Raises:
        InputError: if a file is missing, corrupt, or does not fit the others, or if they are of
            other `settings`.
    """
    first = (
        "run the pipeline first (dvc repro, or snakemake --cores 4), or the split stage alone "
        "(python -m pipeline split)"
    )
    with remedy(missing=AGAIN if folder.exists() else first, corrupt=AGAIN):
        described = records.read(folder / DESCRIPTION, records.Splits)
        with reading(folder / DESCRIPTION):
            mean = np.array(described.mean, np.float32)
            std = np.array(described.std, np.float32)
        images = load_array(folder / IMAGES)
        labels = np.array(load_array(folder / LABELS))
        with reading(folder / INDEX):
            index = list(csv.DictReader(StringIO(complete_text(folder / INDEX), newline="")))
            if described.folds is None:
                fold = None
                split = np.array([row["split"] for row in index], dtype=str)
            else:
                fold = np.array([row["fold"] for row in index], dtype=np.int64)
                columns = run_columns(described.folds)
                split = np.array([[row[run] for run in columns] for row in index], dtype=str)
            ids = np.array([row["id"] for row in index], dtype=np.int64)
            class_names = [row["class"] for row in index]
            group = np.array([row["group"] for row in index]) if "group" in index[0] else None
        pairs: tuple[NearPair, ...] = ()
        if described.near_duplicates is not None and described.near_duplicates.pairs:
            pairs = _near_pairs(folder / NEAR_DUPLICATES, ids)
        splits = fingerprint((folder / INDEX).read_bytes(), (folder / DESCRIPTION).read_bytes())
    dataset = Dataset(
        name=described.name,
        images=images,
        labels=labels,
        ids=ids,
        split=split,
        classes=tuple(described.classes),
        mean=mean,
        std=std,
        counts=described.counts,
        rejected=described.rejected,
        fingerprint=splits,
        folds=described.folds,
        fold=fold,
        duplicates=described.duplicates,
        near_duplicates=described.near_duplicates,
        near_pairs=pairs,
        official=tuple(described.official),
        groups=described.groups,
        group=group,
    )
    _check_fit(folder, dataset, class_names)
    if settings is not None:
        for setting, found, asked in (
            ("data.name", dataset.name, settings.data.name),
            ("data.image_size", dataset.image_size, settings.data.image_size or dataset.image_size),
            ("split.folds", dataset.folds, settings.split.folds),
        ):
            if found != asked:
                names = ["null" if value is None else repr(value) for value in (found, asked)]
                raise InputError(
                    f"{folder}: holds images of {setting} {names[0]}, but params.yaml says "
                    f"{names[1]}; run the split stage (python -m pipeline split)"
                )
    return dataset


def _near_pairs(path: Path, ids: np.ndarray) -> tuple[NearPair, ...]:
    """Read the pairs of images that show the same; `ids` are those of the images."""
    with reading(path):
        lines = list(csv.DictReader(StringIO(complete_text(path), newline="")))
        row_of = {int(image): row for row, image in enumerate(ids)}
        return tuple(
            NearPair(
                rows=(row_of[int(one["id"])], row_of[int(other["id"])]),
                places=(one["split"], other["split"]),
                origins=(one["origin"], other["origin"]),
                mirrored=one["mirrored"] == "true",
            )
            for one, other in zip(lines[::2], lines[1::2], strict=True)
        )


def run_columns(folds: int) -> list[str]:
    """Return the columns of the index that hold each run's split."""
    return [f"run_{run}" for run in range(folds)]


def count(
    group: np.ndarray, labels: np.ndarray, groups: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count the images by group and class.

    Args:
        group: str (N,), one of `groups` for each image.
        labels: int64 (N,), positions in `classes`.
        groups: the names of the groups, such as `SPLITS`.
        classes: the names of the classes.
    """
    counts = {name: np.bincount(labels[group == name], minlength=len(classes)) for name in groups}
    return {name: dict(zip(classes, found.tolist(), strict=True)) for name, found in counts.items()}


def _check_fit(folder: Path, dataset: Dataset, class_names: Sequence[str]) -> None:
    """Raise an `InputError` unless the files fit each other."""

    def refuse(name: str, reason: str) -> NoReturn:
        raise InputError(f"{folder / name}: {reason}; {AGAIN}")

    images, labels = dataset.images, dataset.labels
    if images.dtype != np.uint8 or images.ndim != 4:
        refuse(IMAGES, f"expected uint8 (N, H, W, C), got {images.dtype} {images.shape}")
    if labels.dtype != np.int64 or labels.ndim != 1:
        refuse(LABELS, f"expected int64 (N,), got {labels.dtype} {labels.shape}")
    if images.shape[1] != images.shape[2]:
        refuse(IMAGES, "its images are not square")
    channels, folds = dataset.channels, dataset.folds
    expected = (channels,) if folds is None else (folds, channels)
    if {dataset.mean.shape, dataset.std.shape} != {expected}:
        refuse(DESCRIPTION, f"mean and std are not of {channels} channel(s)")
    for name, length in ((LABELS, len(labels)), (INDEX, len(dataset.ids))):
        if length != len(images):
            refuse(name, f"is incomplete ({length} rows, but {IMAGES} has {len(images)})")
    for split in np.atleast_2d(dataset.split.T):
        if set(split) != set(SPLITS):
            found = ", ".join(sorted(set(split)))
            refuse(INDEX, f"has the splits {found}, expected {', '.join(SPLITS)}")
    if dataset.fold is not None:
        tested = dataset.fold[:, np.newaxis] == np.arange(dataset.split.shape[1])
        if not np.array_equal(tested, dataset.split == SPLITS[-1]):
            refuse(INDEX, "a run does not test its fold")
    known = dict(enumerate(dataset.classes))
    if [known.get(int(label)) for label in labels] != list(class_names):
        refuse(INDEX, f"its classes are not those of {LABELS}")
