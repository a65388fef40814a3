"""From the bytes of an image file, of whatever kind, to RGB pixels."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from textwrap import shorten
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, _imaging

from pipeline.system.text import printable

GAP = 3  # from here on "indistinguishable from fair resampling in most cases": Pillow on its resize
UPRIGHT = 1  # of the EXIF orientations
MOST_PIXELS = 62_500_000  # decoded at once: twice 4 bytes of each, half a gigabyte, in every thread
BAND = 256  # rows that are laid over white at once
LONGEST_REASON = 300  # characters: a decoder's may quote the file


class UndecodableError(Exception):
    """A file gives no image; the message says why in a few words, on one line."""


def decode(file: BinaryIO, image_size: int) -> np.ndarray:
    """Decode an image file: uint8 (image_size, image_size, 3).

    It is what `decode_upright` gives or raises, resized whatever its proportions. A large JPEG is
    decoded at a half, a quarter or an eighth of its size, whichever leaves at least `GAP` times
    `image_size`: a photograph of 12 megapixels takes a third of the time.
    """
    with _opened(file) as image:
        image.draft(None, (GAP * image_size, GAP * image_size))
        upright = _upright(image)
        return np.asarray(upright.resize((image_size, image_size), Image.Resampling.BILINEAR))


def decode_upright(file: BinaryIO) -> Image.Image:
    """Decode an image file from its beginning, at its own size, as RGB.

    The image is turned upright by its EXIF orientation. Of several frames or pages it is the first.
    What is transparent is laid over white, as a page or a viewer shows it: the colours under
    transparent pixels are what a program happened to leave there, often black.

    Raises:
        UndecodableError: if it isn't a complete image, has more than `MOST_PIXELS` pixels, or its
            values have no known range.
    """
    with _opened(file) as image:
        return _upright(image)


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """Open an image file; any error in the block is an `UndecodableError`."""
    _silence_libtiff()
    try:
        with Image.open(file) as image:
            yield image
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise UndecodableError("not an image that can be read") from None
    except Exception as error:  # decoders raise errors of any kind for a corrupt file
        reason = printable(f"{type(error).__name__}: {error}")
        raise UndecodableError(shorten(reason, LONGEST_REASON)) from None


def _upright(image: Image.Image) -> Image.Image:
    """Return the pixels as RGB and upright; an image that is both isn't copied."""
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"{pixels:,} pixels are more than {MOST_PIXELS:,}, the most that are decoded; resize it"
        )
    image.load()  # some formats hold the orientation behind the pixels
    if image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT:
        ImageOps.exif_transpose(image, in_place=True)  # keeps no second copy
    image = _eight_bit(image)
    if image.has_transparency_data:
        result = Image.new("RGB", image.size)
        for top in range(0, image.height, BAND):  # all at once would take three copies
            bottom = min(top + BAND, image.height)
            layer = image.crop((0, top, image.width, bottom)).convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            result.paste(Image.alpha_composite(white, layer).convert("RGB"), (0, top))
        return result
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff from printing, without the file's name, what Pillow raises as an error."""
    with contextlib.suppress(AttributeError, OSError):  # another build of Pillow hasn't got it
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Bring 16-bit grey down to 8 bits; Pillow's own conversion would clip it to white."""
    if image.mode in ("I", "F"):  # 32-bit integers and floats
        raise ValueError(f"pixels of mode {image.mode} have no known range; save it as 8 or 16 bit")
    if not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey
