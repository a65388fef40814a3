"""`digits`: scikit-learn's bundled 1,797 handwritten digits, which need no network.

From the UCI repository's "Optical Recognition of Handwritten Digits" (its test set).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from pipeline.data.collection import Collection
from pipeline.settings.schema import Data
from pipeline.storage.npy import save_array

BRIGHTEST = 16  # the source counts the dark pixels of 4 x 4 blocks


def fetch(raw: Path, data: Data, downloads: Path) -> str:
    """Write the source's own values, 0 to 16; nothing is read from `data.path` or downloaded."""
    digits = load_digits()
    save_array(raw / "images.npy", digits.images.astype(np.uint8))  # (N, 8, 8)
    save_array(raw / "labels.npy", digits.target.astype(np.uint8))  # (N,)
    return "scikit-learn's load_digits"


def read(raw: Path, data: Data, scratch: Path) -> Collection:
    """Read the digits as 8 x 8 images of one channel; see `sources.registry.Source`."""
    counted = np.load(raw / "images.npy")
    labels = np.load(raw / "labels.npy").astype(np.int64)
    images = np.rint(counted * (255.0 / BRIGHTEST)).astype(np.uint8)[..., np.newaxis]
    return Collection(
        images=images,
        labels=labels,
        classes=tuple("0123456789"),
        ids=np.arange(len(labels)),
        origins=[f"load_digits:{position}" for position in range(len(labels))],
    )
