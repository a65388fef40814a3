"""What a source gives: its images with their labels, before they are divided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Rejected:
    """A file that can't be used.

    Attributes:
        path: where it lies, as the source names it; a printable rendering where it isn't UTF-8.
        reason: why it can't be used, in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """The images of a source, in the source's order.

    Attributes:
        images: uint8 (N, H, W, C), in memory or memory-mapped.
        labels: int64 (N,), positions in `classes`.
        classes: the names of the classes.
        ids: int64 (N,), the position of each image in the source, rejected ones counted.
        origins: for each image the file it is from, with its position where a file holds many.
        official_test: bool (N,), whether the source itself puts the image into its test set; None
            where the source has none.
        rejected: what can't be used and is not among the images.
        file: a .npy file of just these images that nobody needs any more, to be moved to where they
            are wanted; None where there is none.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: np.ndarray
    origins: list[str]
    official_test: np.ndarray | None = None
    rejected: tuple[Rejected, ...] = ()
    file: Path | None = None
