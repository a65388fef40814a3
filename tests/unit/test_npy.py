"""A full disk is an error, never a torn array or a signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.npy import new_images, save_array


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


@pytest.mark.parametrize("rows", [1, 100_000])
def test_array_that_finds_no_room_is_an_error(rows: int) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        save_array(Path("/dev/full"), np.zeros(rows))


def test_saved_array_is_what_numpy_saves(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpys.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpys.npy").read_bytes()
