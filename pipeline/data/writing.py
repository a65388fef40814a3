"""Writing the divided images as `pipeline.data.arrays` reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.data import arrays, duplicates, near_duplicates
from pipeline.data.collection import Collection
from pipeline.data.near_duplicates import NearDuplicate
from pipeline.data.splitting import Division
from pipeline.settings.schema import MeanStd
from pipeline.storage import records
from pipeline.storage.checksums import checksum
from pipeline.storage.csv_files import write_rows
from pipeline.storage.npy import new_images, save_array
from pipeline.system.errors import InputError, shown
from pipeline.system.machine import cores
from pipeline.system.progress import track
from pipeline.system.text import plural

BYTES_AT_ONCE = 1 << 22  # of pixels; intermediate arrays take several times as much
DIGITS_OF_STATISTICS = 8

# mean and std of ImageNet's training images, the convention of networks trained on it
IMAGENET = MeanStd(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def write(
    folder: Path,
    name: str,
    collection: Collection,
    division: Division,
    *,
    image_size: int | None,
    normalisation: Literal["training", "imagenet"] | MeanStd,
) -> arrays.Dataset:
    """Write the divided images of the source `name`, and return them as `arrays.read` does.

    They are resized to `image_size` pixels squared, if given. The same input gives the same bytes.

    Raises:
        InputError: if mean and std are ImageNet's or given, and not for so many channels.
    """
    channels = collection.images.shape[-1]
    fixed = IMAGENET if normalisation == "imagenet" else normalisation
    if isinstance(fixed, MeanStd) and {len(fixed.mean), len(fixed.std)} != {channels}:
        raise InputError(
            f"params.yaml: data.normalisation: {shown(normalisation)} is for other images than "
            f"those of {name}, which have {plural(channels, 'channel')}; use 'training'"
        )
    labels, groups = collection.labels[division.rows], collection.groups
    images = folder / arrays.IMAGES
    _write_images(images, collection, division.rows, image_size)
    save_array(folder / arrays.LABELS, labels.astype(np.int64))
    written = np.load(images, mmap_mode="r")
    with ThreadPoolExecutor(max_workers=2) as threads:
        on_disk = threads.submit(_sync, images)
        files = (arrays.IMAGES, arrays.LABELS)
        sha256 = {file: threads.submit(checksum, folder / file) for file in files}
        equal = duplicates.find(written)
    on_disk.result()
    near = near_duplicates.find(written, division.places) if collection.photographs else []
    _write_tables(folder, collection, division, equal, near)
    if isinstance(fixed, MeanStd):
        mean, std = (
            np.broadcast_to(values, (*division.split.shape[1:], channels))
            for values in (fixed.mean, fixed.std)
        )
    else:
        mean, std = _training_statistics(written, division)
    if division.fold is None:
        folds = None
        counts = arrays.count(division.split, labels, arrays.SPLITS, collection.classes)
    else:
        folds = division.split.shape[1]
        names = [f"fold {run}" for run in range(folds)]
        counts = arrays.count(np.array(names)[division.fold], labels, names, collection.classes)
    record = records.Splits(
        name=name,
        classes=list(collection.classes),
        image_size=int(written.shape[1]),
        channels=channels,
        normalisation="given" if isinstance(normalisation, MeanStd) else normalisation,
        folds=folds,
        mean=_rounded(mean),
        std=_rounded(std),
        counts=counts,
        rejected=len(collection.rejected),
        official=_official(collection),
        groups=None if groups is None else len(np.unique(groups[division.rows])),
        duplicates=duplicates.summarise(equal, labels, division),
        near_duplicates=(
            near_duplicates.summarise(near, division)
            if collection.photographs and written.shape[1] >= near_duplicates.SMALLEST
            else None
        ),
        sha256={file: future.result() for file, future in sha256.items()},
    )
    records.write(folder / arrays.DESCRIPTION, record)
    return arrays.read(folder)


def channel_statistics(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and population std of each channel in these rows of uint8 (N, H, W, C).

    Both come from exact integer counts of the 256 values, so neither depends on the order of the
    images or on how many are read at once.

    Returns:
        Two float64 (C,), in units of [0, 1]. The std of a channel that never varies is 1, so that
        one may divide.
    """
    return _moments(_histogram(images, rows))


def _official(collection: Collection) -> list[str]:
    """Return the splits that the source gives."""
    official = set() if collection.official is None else set(collection.official)
    return [split for split in arrays.SPLITS if split in official]


def _training_statistics(images: np.ndarray, division: Division) -> tuple[np.ndarray, np.ndarray]:
    """Return `channel_statistics` of the training split; with folds (folds, C), of each run's."""
    training = division.split == arrays.SPLITS[0]
    if division.fold is None:
        return channel_statistics(images, np.flatnonzero(training))
    # a run trains on most images: counting all once and then each run's others reads fewer
    everything = _histogram(images, np.arange(len(images)))
    runs = [_moments(everything - _histogram(images, np.flatnonzero(~run))) for run in training.T]
    return np.stack([mean for mean, _ in runs]), np.stack([std for _, std in runs])


def _histogram(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Count the pixels of each value in some images, int64 (C, 256)."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for piece in _pieces(rows, images[0].nbytes):
        for channel, pixels in enumerate(np.moveaxis(images[piece], -1, 0)):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    return counts


def _moments(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std of values in [0, 1] that were counted, (C, 256)."""
    values = np.arange(256) / 255.0
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, np.newaxis]) ** 2).sum(axis=1))
    return mean, np.where(std > 0, std, 1.0)


def _rounded(values: np.ndarray) -> list[float] | list[list[float]]:
    rounded = [round(float(value), DIGITS_OF_STATISTICS) for value in values.ravel()]
    return np.reshape(rounded, values.shape).tolist()


def _write_tables(
    folder: Path,
    collection: Collection,
    division: Division,
    equal: Sequence[np.ndarray],
    near: Sequence[NearDuplicate],
) -> None:
    """Write the index, the files that can't be used, the `equal` images and those `near` to it."""
    if division.fold is None:
        columns, values = ["split"], division.split[:, np.newaxis]
    else:
        columns = ["fold", *arrays.run_columns(division.split.shape[1])]
        values = np.column_stack([division.fold.astype(str), division.split])
    if collection.groups is not None:
        columns = [*columns, "group"]
        values = np.column_stack([values, collection.groups[division.rows]])
    ids, classes, origins = collection.ids, collection.classes, collection.origins
    write_rows(
        folder / arrays.INDEX,
        ("id", *columns, "class", "origin"),
        (
            (int(ids[row]), *given, classes[collection.labels[row]], origins[row])
            for row, given in zip(division.rows, values, strict=True)
        ),
    )
    places = division.places
    write_rows(
        folder / arrays.DUPLICATES,
        ("group", "id", "split", "class", "origin"),
        (
            (number, int(ids[row]), place, classes[collection.labels[row]], origins[row])
            for number, group in enumerate(equal, start=1)
            for place, row in zip(places[group], division.rows[group], strict=True)
        ),
    )
    write_rows(
        folder / arrays.NEAR_DUPLICATES,
        ("pair", "id", "split", "class", "origin", "mirrored", "correlation"),
        (
            (
                *(number, int(ids[row]), places[position], classes[collection.labels[row]]),
                *(origins[row], str(pair.mirrored).lower(), f"{pair.correlation:.2f}"),
            )
            for number, pair in enumerate(near, start=1)
            for position in (pair.first, pair.second)
            for row in (division.rows[position],)
        ),
    )
    write_rows(
        folder / arrays.REJECTED,
        ("path", "reason"),
        ((rejected.path, rejected.reason) for rejected in collection.rejected),
    )


def _write_images(
    path: Path, collection: Collection, rows: np.ndarray, image_size: int | None
) -> None:
    """Write the rows to a file, resized where `image_size` is another size, a piece at a time."""
    images = collection.images
    count, *shape, channels = images.shape
    size = shape if image_size is None else [image_size, image_size]
    resizes = size != shape
    if collection.file is not None and not resizes and np.array_equal(rows, np.arange(count)):
        collection.file.replace(path)
        return
    target = new_images(path, (len(rows), *size, channels))
    start = 0
    pieces = list(_pieces(rows, max(images[0].nbytes, target[0].nbytes)))
    with ThreadPoolExecutor(max_workers=cores()) as threads:
        for piece in track(pieces, "writing images"):
            pixels = images[piece]
            if resizes:
                pixels = np.stack(list(threads.map(_resized, pixels, repeat(size[0]))))
            target[start : start + len(pixels)] = pixels
            start += len(pixels)


def _sync(path: Path) -> None:
    """Wait until a file is on the disk, whoever mapped it."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _pieces(rows: np.ndarray, bytes_per_row: int) -> Iterator[np.ndarray]:
    """Yield the rows in pieces of at most `BYTES_AT_ONCE` of pixels, but at least one row."""
    length = max(1, BYTES_AT_ONCE // bytes_per_row)
    for start in range(0, len(rows), length):
        yield rows[start : start + length]


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, C) bilinearly, averaging where it shrinks."""
    pixels = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = np.asarray(pixels.resize((size, size), Image.Resampling.BILINEAR))
    return resized.reshape(size, size, -1)
