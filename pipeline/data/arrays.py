"""The divided images on disk: arrays to map into memory, and an index that a person can read."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.data.collection import Collection
from pipeline.errors import InputError
from pipeline.machine import cores
from pipeline.progress import track

IMAGES = "images.npy"
LABELS = "labels.npy"
INDEX = "index.csv"
DESCRIPTION = "dataset.json"
REJECTED = "rejected.csv"

SPLITS = ("train", "validation", "test")
ROWS_AT_ONCE = 1024
DIGITS_OF_STATISTICS = 8

# mean and std of ImageNet's training images, the convention of networks trained on it
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Division:
    """Which images of a collection are used, and for what.

    Attributes:
        rows: int64 (M,), rows of the collection, ascending.
        split: (M,), one of `SPLITS` for each.
    """

    rows: np.ndarray
    split: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """The divided images.

    Attributes:
        name: of the source.
        images: uint8 (N, H, W, C), mapped from the file and read-only.
        labels: int64 (N,), positions in `classes`.
        ids: int64 (N,), the position of each image in its source; the same image has the same id
            whatever the other settings of the split.
        split: str (N,), train, validation or test.
        classes: the names of the classes.
        mean: float32 (C,), to normalise by, for images in [0, 1]: of the training split, or
            ImageNet's.
        std: float32 (C,), the same.
        counts: images by split and class.
        rejected: how many images were set aside.
        fingerprint: sha256 of the index and the description, the same for the same splits.
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

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.images.shape[-1])

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of a split, ascending."""
        if split not in SPLITS:
            raise ValueError(f"split is '{split}', expected one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.split == split)


def write(
    folder: Path,
    name: str,
    collection: Collection,
    division: Division,
    *,
    image_size: int | None,
    normalisation: Literal["training", "imagenet"],
) -> Dataset:
    """Write the divided images of a collection; the same input gives the same bytes.

    Args:
        folder: an existing folder.
        name: of the source.
        collection: the source's images.
        division: which of them are used, and for what.
        image_size: height and width to resize to, None to keep the collection's.
        normalisation: whose mean and standard deviation to use.

    Returns:
        What was written, as `read` gives it.

    Raises:
        InputError: if ImageNet's mean and deviation are wanted for images that aren't RGB.
    """
    channels = collection.images.shape[-1]
    if normalisation == "imagenet" and channels != len(IMAGENET[0]):
        raise InputError(
            f"params.yaml: data.normalisation: 'imagenet' is for RGB images, but those of {name} "
            f"have {channels} channel; use 'training'"
        )
    labels = collection.labels[division.rows]
    _write_images(folder / IMAGES, collection.images, division.rows, image_size)
    np.save(folder / LABELS, labels.astype(np.int64))
    written = np.load(folder / IMAGES, mmap_mode="r")
    if normalisation == "imagenet":
        mean, std = map(np.array, IMAGENET)
    else:
        mean, std = channel_statistics(written, np.flatnonzero(division.split == SPLITS[0]))
    counts = {
        split: {
            class_name: int(((division.split == split) & (labels == label)).sum())
            for label, class_name in enumerate(collection.classes)
        }
        for split in SPLITS
    }
    _write_csv(
        folder / INDEX,
        ("id", "split", "class", "origin"),
        [
            (int(collection.ids[row]), split, collection.classes[label], collection.origins[row])
            for row, split, label in zip(division.rows, division.split, labels, strict=True)
        ],
    )
    _write_csv(
        folder / REJECTED,
        ("path", "reason"),
        [(rejected.path, rejected.reason) for rejected in collection.rejected],
    )
    description = {
        "name": name,
        "classes": list(collection.classes),
        "image_size": int(written.shape[1]),
        "channels": int(written.shape[-1]),
        "normalisation": normalisation,
        "mean": [round(float(value), DIGITS_OF_STATISTICS) for value in mean],
        "std": [round(float(value), DIGITS_OF_STATISTICS) for value in std],
        "counts": counts,
        "rejected": len(collection.rejected),
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    return read(folder)


def read(folder: Path, name: str | None = None) -> Dataset:
    """Open the divided images.

    Args:
        folder: as `write` left it, usually ``data/splits``.
        name: the source that they must be of, if it matters.

    Raises:
        InputError: if a file is missing, torn, or does not fit the others, or all are of another
            source.
    """
    try:
        path = folder / DESCRIPTION
        description = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(description["classes"])
        path = folder / IMAGES
        images = np.load(path, mmap_mode="r")
        path = folder / LABELS
        labels = np.load(path)
        path = folder / INDEX
        with path.open(encoding="utf-8", newline="") as file:
            index = [(int(row["id"]), row["split"], row["class"]) for row in csv.DictReader(file)]
        dataset = Dataset(
            name=description["name"],
            images=images,
            labels=labels,
            ids=np.array([image_id for image_id, _, _ in index], dtype=np.int64),
            split=np.array([split for _, split, _ in index]),
            classes=classes,
            mean=np.array(description["mean"], dtype=np.float32),
            std=np.array(description["std"], dtype=np.float32),
            counts=description["counts"],
            rejected=description["rejected"],
            fingerprint=_fingerprint(folder),
        )
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; {_again()}") from None
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise InputError(f"{path}: is torn ({error}); {_again()}") from None
    if name is not None and dataset.name != name:
        raise InputError(
            f"{folder}: holds '{dataset.name}', but params.yaml: data.name is '{name}'; "
            "run the split stage (python -m pipeline split)"
        )
    _check_fit(folder, dataset, [class_name for _, _, class_name in index])
    return dataset


def channel_statistics(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and population standard deviation of each channel, in units of [0, 1].

    Both come from exact integer counts of the 256 values, so neither depends on the order of the
    images or on how many are read at once.

    Args:
        images: uint8 (N, H, W, C).
        rows: the rows to measure.

    Returns:
        Two float64 (C,). A channel that never varies has a deviation of 1, so that one may divide.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chunk = images[rows[start : start + ROWS_AT_ONCE]]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255.0
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, np.newaxis]) ** 2).sum(axis=1))
    return mean, np.where(std > 0, std, 1.0)


def _fingerprint(folder: Path) -> str:
    content = (folder / INDEX).read_bytes() + (folder / DESCRIPTION).read_bytes()
    return hashlib.sha256(content).hexdigest()


def _again() -> str:
    return "delete the folder and run the split stage again (python -m pipeline split)"


def _check_fit(folder: Path, dataset: Dataset, class_names: Sequence[str]) -> None:
    if dataset.images.dtype != np.uint8 or dataset.images.ndim != 4:
        shape, dtype = dataset.images.shape, dataset.images.dtype
        raise InputError(f"{folder / IMAGES}: expected uint8 (N, H, W, C), got {dtype} {shape}")
    if dataset.images.shape[1] != dataset.images.shape[2]:
        raise InputError(f"{folder / IMAGES}: its images are not square; {_again()}")
    channels = dataset.channels
    if {len(dataset.mean), len(dataset.std)} != {channels}:
        raise InputError(
            f"{folder / DESCRIPTION}: mean and std are not of {channels} channel(s); {_again()}"
        )
    if set(dataset.split) != set(SPLITS):
        raise InputError(
            f"{folder / INDEX}: has the splits {', '.join(sorted(set(dataset.split)))}, expected "
            f"{', '.join(SPLITS)}; {_again()}"
        )
    count = len(dataset.images)
    for name, length in ((LABELS, len(dataset.labels)), (INDEX, len(dataset.ids))):
        if length != count:
            raise InputError(
                f"{folder / name}: is torn ({length} rows, but {IMAGES} has {count}); {_again()}"
            )
    known = dict(enumerate(dataset.classes))
    if [known.get(int(label)) for label in dataset.labels] != list(class_names):
        raise InputError(f"{folder / INDEX}: its classes are not those of {LABELS}; {_again()}")


def _write_images(path: Path, images: np.ndarray, rows: np.ndarray, image_size: int | None) -> None:
    """Copy the rows to a file, resized where `image_size` is another size, a chunk at a time."""
    _, height, width, channels = images.shape
    size = (height, width) if image_size is None else (image_size, image_size)
    resizes = size != (height, width)
    target = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(len(rows), *size, channels)
    )
    with ThreadPoolExecutor(max_workers=cores()) as threads:
        for start in track(range(0, len(rows), ROWS_AT_ONCE), "writing images"):
            chunk = images[rows[start : start + ROWS_AT_ONCE]]
            if resizes:
                chunk = np.stack(list(threads.map(_resized, chunk, [size] * len(chunk))))
            target[start : start + len(chunk)] = chunk
    target.flush()


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, C) bilinearly, averaging where it shrinks."""
    height, width = size
    grey = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return resized[..., np.newaxis] if grey else resized


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
