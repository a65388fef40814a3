"""Arrays in ``.npy`` files, written so that a full disk is an error."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from pipeline.system.errors import FULL_DISK


def new_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Make a ``.npy`` file of uint8 and map it; its bytes are 0.

    Its room on the disk is taken at once. A full disk is then an error here: at a write through the
    mapping it would be a signal that ends the process without a word.
    """
    images: np.ndarray = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:  # where room can't be taken in advance, it isn't
                if error.errno in FULL_DISK:
                    raise OSError(error.errno, error.strerror, str(path)) from None
    return images


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array, which has to fit into memory twice, as `np.save` does.

    A full disk is an `OSError`: NumPy itself writes to a file through C's buffer, and what of that
    finds no room is lost in silence.
    """
    content = io.BytesIO()
    np.save(content, array)
    path.write_bytes(content.getbuffer())
