"""The divided images on disk: arrays to map into memory, and an index that a person can read."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np

from pipeline.settings.schema import Settings
from pipeline.system.errors import InputError

IMAGES = "images.npy"
LABELS = "labels.npy"
INDEX = "index.csv"
DESCRIPTION = "dataset.json"
REJECTED = "rejected.csv"
DUPLICATES = "duplicates.csv"

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Duplicates:
    """How many images have the same pixels as another; ``duplicates.csv`` names them.

    Attributes:
        groups: groups of images with the same pixels.
        images: images in them.
        across_splits: groups with images in more than one split (with folds: in more than one
            fold).
        across_classes: groups with images of more than one class.
        test_images: test images that also lie in train or validation (with folds: in the run that
            tests them).
    """

    groups: int = 0
    images: int = 0
    across_splits: int = 0
    across_classes: int = 0
    test_images: int = 0


@dataclass(frozen=True)
class Dataset:
    """The divided images.

    With k folds there are k runs, each with a division of its own. What `read` returns then is all
    of them, and `for_run` gives one.

    Attributes:
        name: of the source.
        images: uint8 (N, H, W, C), mapped from the file and read-only.
        labels: int64 (N,), positions in `classes`.
        ids: int64 (N,), the position of each image in its source; the same image has the same id
            whatever the other settings of the split.
        split: str (N,), train, validation or test; of all runs (N, folds).
        classes: the names of the classes.
        mean: float32 (C,), to normalise by, for images in [0, 1]: of the training split, or
            ImageNet's; of all runs (folds, C).
        std: float32 (C,), the same.
        counts: images by split and class; of all runs by fold ("fold 0") and class.
        rejected: how many images were set aside.
        fingerprint: sha256 of the index and the description, the same for the same splits; all
            runs have the same.
        folds: k of k-fold cross-validation, or None.
        fold: int64 (N,), the run that tests the image, or None.
        duplicates: images with the same pixels.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    split: np.ndarray
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    counts: dict[str, dict[str, int]]
    rejected: int
    fingerprint: str = ""
    folds: int | None = None
    fold: np.ndarray | None = None
    duplicates: Duplicates = Duplicates()

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.images.shape[-1])

    def for_run(self, seed: int) -> Dataset:
        """Return the data set as the run with this seed sees it.

        Without folds every run sees the same, else run r tests on fold r and has its own training
        and validation split, mean and deviation.

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


@dataclass(frozen=True)
class ExpectedSplits:
    """What params.yaml says of the images; splits of other settings are stale.

    Attributes:
        name: of the source.
        image_size: in pixels, None for the source's own.
        folds: of the cross-validation, None for none.
    """

    name: str
    image_size: int | None
    folds: int | None


def expected_splits(settings: Settings) -> ExpectedSplits:
    """Return what the splits must be that a stage reads."""
    return ExpectedSplits(settings.data.name, settings.data.image_size, settings.split.folds)


def read(folder: Path, wanted: ExpectedSplits | None = None) -> Dataset:
    """Open the divided images.

    Args:
        folder: as the split stage left it, usually ``data/splits``.
        wanted: what they must be, if it matters.

    Raises:
        InputError: if a file is missing, torn, or does not fit the others, or they are not what is
            wanted.
    """
    try:
        path = folder / DESCRIPTION
        description = json.loads(whole_text(path))
        classes = tuple(description["classes"])
        folds = description["folds"]
        described = {
            "name": description["name"],
            "classes": classes,
            "mean": _numbers(description["mean"]),
            "std": _numbers(description["std"]),
            "counts": description["counts"],
            "rejected": int(description["rejected"]),
            "folds": folds,
            "duplicates": Duplicates(**description["duplicates"]),
        }
        if not all(isinstance(name, str) for name in classes):
            raise ValueError("a class has no name")
        path = folder / IMAGES
        images = load_array(path)
        path = folder / LABELS
        labels = np.array(load_array(path))
        path = folder / INDEX
        index = list(csv.DictReader(StringIO(whole_text(path), newline="")))
        dataset = Dataset(
            images=images,
            labels=labels,
            ids=np.array([row["id"] for row in index], dtype=np.int64),
            split=_splits(index, folds),
            fingerprint=_fingerprint(folder),
            fold=None if folds is None else np.array([row["fold"] for row in index], np.int64),
            **described,
        )
        class_names = [row["class"] for row in index]
    except FileNotFoundError:
        remedy = _again() if folder.exists() else _first()
        raise InputError(f"{path}: does not exist; {remedy}") from None
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error, OSError) as error:
        raise InputError(f"{path}: is torn ({error}); {_again()}") from None
    _check_fit(folder, dataset, class_names)
    if wanted is not None:
        _check_wanted(folder, dataset, wanted)
    return dataset


def load_array(path: Path) -> np.ndarray:
    """Map an array from its file; a header that lies can't fill the memory.

    Raises:
        OSError: if the file can't be read.
        ValueError: if it holds no array of numbers, or not all of it.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # its reader stumbles over whatever a torn header says
        raise ValueError(f"no whole array: {type(error).__name__}") from None


def _numbers(values: object) -> np.ndarray:
    numbers = np.array(values, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("a mean or deviation is no number")
    return numbers


def _check_wanted(folder: Path, dataset: Dataset, wanted: ExpectedSplits) -> None:
    compared = {
        "data.name": (dataset.name, wanted.name),
        "data.image_size": (dataset.image_size, wanted.image_size or dataset.image_size),
        "split.folds": (dataset.folds, wanted.folds),
    }
    for setting, (held, asked) in compared.items():
        if held != asked:
            held, asked = ("null" if value is None else repr(value) for value in (held, asked))
            raise InputError(
                f"{folder}: holds images of {setting} {held}, but params.yaml says {asked}; run "
                "the split stage (python -m pipeline split)"
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
    return {
        name: dict(
            zip(
                classes,
                np.bincount(labels[group == name], minlength=len(classes)).tolist(),
                strict=True,
            )
        )
        for name in groups
    }


def whole_text(path: Path) -> str:
    """Return the text of a file; raise a ValueError if it ends within a line."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    if not text.endswith("\n"):
        raise ValueError("it ends within a line")
    return text


def _splits(index: Sequence[dict[str, str]], folds: int | None) -> np.ndarray:
    """Return str (N,), or (N, folds) with the column r for run r."""
    if folds is None:
        return np.array([row["split"] for row in index], dtype=str)
    columns = run_columns(folds)
    return np.array([[row[column] for column in columns] for row in index], dtype=str)


def _fingerprint(folder: Path) -> str:
    content = (folder / INDEX).read_bytes() + (folder / DESCRIPTION).read_bytes()
    return hashlib.sha256(content).hexdigest()


def _first() -> str:
    return (
        "run the pipeline first (dvc repro, or snakemake --cores 4), or the split stage alone "
        "(python -m pipeline split)"
    )


def _again() -> str:
    return "delete the folder and run the split stage again (python -m pipeline split)"


def _check_fit(folder: Path, dataset: Dataset, class_names: Sequence[str]) -> None:
    if dataset.images.dtype != np.uint8 or dataset.images.ndim != 4:
        shape, dtype = dataset.images.shape, dataset.images.dtype
        raise InputError(
            f"{folder / IMAGES}: expected uint8 (N, H, W, C), got {dtype} {shape}; {_again()}"
        )
    if dataset.labels.dtype != np.int64 or dataset.labels.ndim != 1:
        shape, dtype = dataset.labels.shape, dataset.labels.dtype
        raise InputError(f"{folder / LABELS}: expected int64 (N,), got {dtype} {shape}; {_again()}")
    if dataset.images.shape[1] != dataset.images.shape[2]:
        raise InputError(f"{folder / IMAGES}: its images are not square; {_again()}")
    channels, folds = dataset.channels, dataset.folds
    expected = (channels,) if folds is None else (folds, channels)
    if {dataset.mean.shape, dataset.std.shape} != {expected}:
        raise InputError(
            f"{folder / DESCRIPTION}: mean and std are not of {channels} channel(s); {_again()}"
        )
    images = len(dataset.images)
    for name, length in ((LABELS, len(dataset.labels)), (INDEX, len(dataset.ids))):
        if length != images:
            raise InputError(
                f"{folder / name}: is torn ({length} rows, but {IMAGES} has {images}); {_again()}"
            )
    for split in np.atleast_2d(dataset.split.T):
        if set(split) != set(SPLITS):
            raise InputError(
                f"{folder / INDEX}: has the splits {', '.join(sorted(set(split)))}, expected "
                f"{', '.join(SPLITS)}; {_again()}"
            )
    if dataset.fold is not None:
        tested = dataset.fold[:, np.newaxis] == np.arange(dataset.split.shape[1])
        if not np.array_equal(tested, dataset.split == SPLITS[-1]):
            raise InputError(f"{folder / INDEX}: a run does not test its fold; {_again()}")
    known = dict(enumerate(dataset.classes))
    if [known.get(int(label)) for label in dataset.labels] != list(class_names):
        raise InputError(f"{folder / INDEX}: its classes are not those of {LABELS}; {_again()}")
