"""Exact duplicates: images with the same pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pipeline.data.arrays import SPLITS
from pipeline.data.splitting import Division
from pipeline.storage.records import Duplicates
from pipeline.system.progress import track

BYTES_OF_DIGEST = 16  # of sha256: two of a million images agree by chance once in 10^26 times


def find(images: np.ndarray) -> list[np.ndarray]:
    """Find the images that are equal, byte for byte, in uint8 (N, H, W, C).

    Returns:
        The rows of each group of two or more equal images, ascending; the groups by first row.
    """
    pixels = np.asarray(images)  # the same memory: one by one, rows of a memmap are slow to make
    found = np.empty((len(pixels), BYTES_OF_DIGEST), np.uint8)
    for row in track(range(len(pixels)), "looking for duplicates"):
        digest = hashlib.sha256(pixels[row]).digest()[:BYTES_OF_DIGEST]
        found[row] = np.frombuffer(digest, np.uint8)
    digests = found.view(np.uint64)  # (N, 2)
    order = np.lexsort(digests.T)  # stable: equal images stay in ascending order
    ordered = digests[order]
    begins = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1)))
    ends = np.append(begins[1:], len(order))
    several = ends - begins > 1
    groups = [order[begin:end] for begin, end in zip(begins[several], ends[several], strict=True)]
    return sorted(groups, key=lambda rows: int(rows[0]))


def summarise(groups: Sequence[np.ndarray], labels: np.ndarray, division: Division) -> Duplicates:
    """Count what the groups of `find` mean for the division; `labels` is int64 (M,)."""
    places = division.places
    # with folds every image is a test image, in the run of its fold
    is_test = division.split == SPLITS[-1] if division.fold is None else np.full(len(labels), True)
    across_splits = [rows for rows in groups if len(np.unique(places[rows])) > 1]
    return Duplicates(
        groups=len(groups),
        images=sum(map(len, groups)),
        across_splits=len(across_splits),
        across_classes=sum(len(np.unique(labels[rows])) > 1 for rows in groups),
        test_images=sum(int(is_test[rows].sum()) for rows in across_splits),
    )
