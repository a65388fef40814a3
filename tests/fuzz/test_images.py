"""Whatever bytes an image file holds: a usable image comes of it, or a reason in a few words."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator

import numpy as np
from hypothesis import given

from pipeline.data.sources.decoding import UndecodableError, decode, decode_upright
from tests.fuzz.conftest import Outcomes
from tests.fuzz.images import image_files
from tests.fuzz.strategies import examples

SIZE = 16
SLOWEST = 2  # seconds
MOST_MEMORY = 500 * 2**20  # bytes
LONGEST_REASON = 500  # characters


def status(key: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return 1024 * int(line.split()[1])


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fail if the block takes too long or too much memory, or writes to standard error."""
    with tempfile.TemporaryFile() as noise:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(noise.fileno(), 2)
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")  # the peak is now what is in use
        before, began = status("VmRSS"), time.process_time()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        took, grown = time.process_time() - began, status("VmHWM") - before
        noise.seek(0)
        assert noise.read() == b""
    assert took < SLOWEST, f"{took:.1f} s"
    assert grown < MOST_MEMORY, f"{grown / 2**20:,.0f} MiB"


def read(content: bytes) -> str:
    """Decode as the source image_folder and `predict` do; return how it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as both of them
        try:
            pixels = decode(io.BytesIO(content), SIZE)
            whole = decode_upright(io.BytesIO(content))
        except UndecodableError as reason:
            assert str(reason)
            assert str(reason).isprintable(), repr(str(reason))
            assert len(str(reason)) <= LONGEST_REASON
            return "set aside with a reason"
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    assert whole.mode == "RGB"
    return "usable"


@examples(150, 12_000)
@given(content=image_files())
def test_any_bytes_are_an_image_or_set_aside(content: bytes, outcomes: Outcomes) -> None:
    with bounded():
        ended = read(content)
    outcomes.add("image files", ended)
