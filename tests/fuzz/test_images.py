"""Whatever bytes an image file holds: a usable image comes of it, or a reason in a few words."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from pipeline.commands.prediction_images import LONGEST_SIDE
from pipeline.data.sources.decoding import UndecodableError, decode, decode_upright
from tests.fuzz.conftest import Outcomes, processor_limit
from tests.fuzz.images import ORIGINALS, image_files
from tests.fuzz.strategies import examples

SIZE = 16
SLOWEST = 2  # seconds
MOST_MEMORY = 500 * 2**20  # bytes
LONGEST_REASON = 500  # characters


def status(key: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fail if the block takes too long or too much memory, or writes to standard error."""
    with tempfile.TemporaryFile() as noise:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(noise.fileno(), 2)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
        before = status("VmRSS")
        try:
            with processor_limit(SLOWEST):
                yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        grown = status("VmHWM") - before
        noise.seek(0)
        assert noise.read() == b""
    assert grown < MOST_MEMORY, f"{grown / 2**20:,.0f} MiB"


def read(content: bytes) -> str:
    """Decode as the source image_folder and `predict` do; return how it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as both of them
        try:
            pixels = decode(io.BytesIO(content), SIZE)
            upright = decode_upright(io.BytesIO(content), LONGEST_SIDE)
        except UndecodableError as error:
            reason = str(error)
        else:
            assert pixels.shape == (SIZE, SIZE, 3)
            assert pixels.dtype == np.uint8
            assert upright.mode == "RGB"
            return "usable"
    assert reason
    assert reason.isprintable(), repr(reason)
    assert len(reason) <= LONGEST_REASON
    return "set aside with a reason"


@examples(150, 10_500)
@given(content=image_files())
def test_any_bytes_are_an_image_or_set_aside(content: bytes, outcomes: Outcomes) -> None:
    with bounded():
        ended = read(content)
    outcomes.add("image files", ended)


def complete_png(width: int, height: int) -> bytes:
    """A black picture, all of it there."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def without_checksum(content: bytes) -> bytes:
    """A deflated TIFF with another checksum of its pixels, which libtiff used to print."""
    with Image.open(io.BytesIO(content)) as picture:
        (start,), (length,) = picture.tag_v2[273], picture.tag_v2[279]
    return content[: start + length - 4] + bytes(4) + content[start + length :]


# Found by fuzzing, each with what came of it before.
FOUND = {
    "169 million pixels in 21 kB": complete_png(13_000, 13_000),  # 1.5 GB and 3 seconds
    "a corrupt TIFF": without_checksum(ORIGINALS["TIFF, deflate"]),  # a line of libtiff's own
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_set_aside(name: str) -> None:
    with bounded():
        assert read(FOUND[name]) == "set aside with a reason"


def test_fifty_megapixels_are_decoded() -> None:
    with bounded():
        assert read(complete_png(8_000, 6_250)) == "usable"


def test_transparency_is_laid_over_white_in_bands_as_in_one() -> None:
    random = np.random.default_rng(0)
    layer = Image.fromarray(random.integers(0, 256, (700, 5, 4), np.uint8))
    white = Image.new("RGBA", layer.size, "white")
    file = io.BytesIO()
    layer.save(file, "PNG")
    file.seek(0)
    expected = Image.alpha_composite(white, layer).convert("RGB")
    assert np.array_equal(decode_upright(file, LONGEST_SIDE), expected)
