"""New arrays in files: their room on the disk is theirs from the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data.mapping import new_images


def test_room_on_the_disk_is_taken_at_once(tmp_path: Path) -> None:
    images = new_images(tmp_path / "images.npy", (100, 32, 32, 3))
    assert (tmp_path / "images.npy").stat().st_blocks * 512 >= images.nbytes
    images[3] = 7
    images.flush()
    written = np.load(tmp_path / "images.npy")
    assert written.dtype == np.uint8
    assert written.shape == (100, 32, 32, 3)
    assert written[3].min() == written.max() == 7
    assert written[4:].max() == 0
