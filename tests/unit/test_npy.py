"""A full disk is an error, never a corrupt array or a signal."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.storage.npy import new_images, save_array


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


def refusing(number: int) -> Callable[[int, int, int], None]:
    def refuse(descriptor: int, offset: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match=r"No space left on device: '.*images\.npy'"):
        new_images(tmp_path / "images.npy", (1, 2, 2, 3))


def test_disk_that_takes_no_room_in_advance_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EOPNOTSUPP))
    assert new_images(tmp_path / "images.npy", (1, 2, 2, 3)).shape == (1, 2, 2, 3)


@pytest.mark.parametrize("rows", [1, 100_000])
def test_array_that_finds_no_room_is_an_error(rows: int) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        save_array(Path("/dev/full"), np.zeros(rows))


def test_saved_array_is_what_numpy_saves(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpys.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpys.npy").read_bytes()
