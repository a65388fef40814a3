"""What a source gives: its images with their labels, before they are divided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Rejected:
    """A file that can't be used."""

    path: str  # where it lies, as the source names it; a printable rendering where it isn't UTF-8
    reason: str  # why it can't be used, in a few words
    class_name: str = ""  # its class, where it has one
    split: str = ""  # the split into which the source puts it, where it has one


@dataclass(frozen=True)
class Collection:
    """The images of a source, in the source's order."""

    images: np.ndarray  # uint8 (N, H, W, C), in memory or memory-mapped
    labels: np.ndarray  # int64 (N,), positions in `classes`
    classes: tuple[str, ...]  # the names of the classes
    ids: np.ndarray  # int64 (N,), the position of each image in the source, rejected ones counted
    # for each image the file it is from, with its position where a file holds many
    origins: list[str]
    photographs: bool = False  # each image is a file of a person's: some may show the same
    # str (N,), the split into which the source puts each image: train, validation or test; None
    # where it has none
    official: np.ndarray | None = None
    # str (N,), what each image is of: a patient, a video, a place. Those of one group never lie in
    # two splits; None where each image stands for itself
    groups: np.ndarray | None = None
    rejected: tuple[Rejected, ...] = ()  # what can't be used and is not among the images
    # a .npy file of just these images that may be moved; None where there is none
    file: Path | None = None
