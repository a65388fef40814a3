"""From the bytes of an image file, of whatever kind, to RGB pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

GAP = 2  # as Pillow's own thumbnails: what is left to the averaging that resizes to the pixel
UPRIGHT = 1  # of the EXIF orientations


class UndecodableError(Exception):
    """A file gives no image; the message says why in a few words, on one line."""


def decode(file: BinaryIO, image_size: int) -> np.ndarray:
    """Decode an image file: uint8 (image_size, image_size, 3).

    It is what `decode_upright` gives, resized as a whole, whatever its proportions. A large JPEG is
    decoded at a half, a quarter or an eighth of its size, whichever leaves at least `GAP` times
    `image_size`: a photograph of 12 megapixels takes a third of the time.

    Args:
        file: at its beginning.
        image_size: height and width in pixels.

    Raises:
        UndecodableError: as `decode_upright`.
    """
    with _opened(file) as picture:
        picture.draft(None, (GAP * image_size, GAP * image_size))
        whole = _upright(picture)
        return np.asarray(whole.resize((image_size, image_size), Image.Resampling.BILINEAR))


def decode_upright(file: BinaryIO) -> Image.Image:
    """Decode an image file at its own size, as RGB.

    The image is turned upright by its EXIF orientation. Of several frames or pages it is the first.
    What is transparent is laid over white, as a page or a viewer shows it: the colours under
    transparent pixels are what a program happened to leave there, often black, and nobody ever saw
    them.

    Args:
        file: at its beginning.

    Raises:
        UndecodableError: if it isn't a whole image, is too large to be decoded safely (Pillow's
            limit, twice `Image.MAX_IMAGE_PIXELS`), or its values have no known range.
    """
    with _opened(file) as picture:
        return _upright(picture)


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """Open an image file; whatever the block then stumbles over is an `UndecodableError`."""
    try:
        with Image.open(file) as picture:
            yield picture
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise UndecodableError("not an image that can be read") from None
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        reason = f"{type(error).__name__}: {error}"
        raise UndecodableError(" ".join(reason.split())) from None


def _upright(picture: Image.Image) -> Image.Image:
    """Return the pixels as RGB and upright; a picture that is both isn't copied."""
    picture.load()  # some formats hold the orientation behind the pixels
    if picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT:
        picture = ImageOps.exif_transpose(picture)
    picture = _eight_bit(picture)
    if picture.has_transparency_data:
        return _on_white(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Bring 16-bit grey down to 8 bits; Pillow's own conversion would clip it to white.

    Raises:
        ValueError: if its values have no known range, as 32-bit integers and floats.
    """
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {picture.mode} have no known range; save it as 8 or 16 bit"
        )
    if not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in picture.info:
        opaque = values != picture.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


def _on_white(picture: Image.Image) -> Image.Image:
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
