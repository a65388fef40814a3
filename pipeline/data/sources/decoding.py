"""From the bytes of an image file, of whatever kind, to RGB pixels."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


class UndecodableError(Exception):
    """A file gives no image; the message says why in a few words, on one line."""


def decode(file: BinaryIO, image_size: int) -> np.ndarray:
    """Decode an image file: uint8 (image_size, image_size, 3).

    It is what `decode_upright` gives, resized as a whole, whatever its proportions.

    Args:
        file: at its beginning.
        image_size: height and width in pixels.

    Raises:
        UndecodableError: as `decode_upright`.
    """
    return squared(decode_upright(file), image_size)


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
    try:
        with Image.open(file) as picture:
            return _on_white(_eight_bit(ImageOps.exif_transpose(picture)))
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise UndecodableError("not an image that can be read") from None
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        reason = f"{type(error).__name__}: {error}"
        raise UndecodableError(" ".join(reason.split())) from None


def squared(picture: Image.Image, image_size: int) -> np.ndarray:
    """Return a picture resized as a whole, uint8 (image_size, image_size, 3)."""
    return np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))


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
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
