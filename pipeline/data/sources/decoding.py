"""From the bytes of an image file, of whatever kind, to RGB pixels."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import functools
from collections.abc import Iterator
from textwrap import shorten
from typing import BinaryIO, cast

import numpy as np
import pillow_heif
from PIL import (
    ExifTags,
    Image,
    ImageOps,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    _imaging,
)

from pipeline.system.text import printable

GAP = 3  # from here on "indistinguishable from fair resampling in most cases": Pillow on its resize
UPRIGHT = 1  # of the EXIF orientations
REDUCED = 1  # of the bits of NewSubfileType in TIFF
WHITE_IS_ZERO = 0  # of the photometric interpretations of TIFF
MOST_PIXELS = 62_500_000  # decoded at once: twice 4 bytes of each, half a gigabyte, in every thread
BAND = 256  # rows that are laid over white at once
LONGEST_REASON = 300  # characters: a decoder's may quote the file

# HEIC, as iPhones write it. The thumbnail in a file needn't be of the image as it was edited last
pillow_heif.register_heif_opener(thumbnails=False)

# Of Pillow's formats those of pictures, in the order in which they are tried: TGA has no mark of
# its own. EPS would run Ghostscript, IPTC open a file of any format inside of it; of the range of
# FITS Pillow knows nothing
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "ICO"),
    *("ICNS", "PSD", "PCX", "DCX", "DDS", "QOI", "SGI", "SUN", "XBM", "XPM", "TGA"),
)

# How files begin that are taken for images, in lower case: after white space, or of ISO media files
# and JPEG XL from their fifth byte on
DAMAGED = "incomplete or corrupt"
BEGINNINGS = {
    **{b"%pdf": "PDF", b"pk\3\4": "a ZIP archive", b"<svg": "SVG", b"<?xml": "XML, such as SVG"},
    **{b"<!doctype html": "HTML, a web page", b"<html": "HTML, a web page"},
    **{b"\xff\x0a": "JPEG XL", b"jxl ": "JPEG XL", b"ftypcrx": "a camera's raw (CR3)"},
    **{b"ftypavi": f"AVIF, {DAMAGED}", b"ftypmif1": f"HEIF or AVIF, {DAMAGED}"},
    **{b"ftyphei": f"HEIC, {DAMAGED}", b"ftyphev": f"HEIC, {DAMAGED}"},
    **{b"ftyp": "a video (MP4, MOV)", b"\x1ae\xdf\xa3": "a video (MKV, WebM)"},
    **{b"\xff\xd8\xff": f"JPEG, {DAMAGED}", b"\x89png": f"PNG, {DAMAGED}"},
    **{b"gif8": f"GIF, {DAMAGED}", b"riff": f"WebP, {DAMAGED}, or a video (AVI)"},
    **{b"ii*\0": f"TIFF, {DAMAGED}, or a camera's raw", b"mm\0*": f"TIFF, {DAMAGED}"},
}
LONGEST_BEGINNING = 64  # bytes that are looked at

# Pillow spreads grey of few bits over 0 to 255, but not the grey that a file calls transparent
STEPS_OF_GREY = {"L;2": 255 // 3, "L;4": 255 // 15}


class UndecodableError(Exception):
    """A file gives no image; the message says why in a few words, on one line."""


def decode(file: BinaryIO, image_size: int) -> np.ndarray:
    """Decode an image file: uint8 (image_size, image_size, 3).

    It is upright RGB over white and raises as in `decode_upright`, resized whatever its
    proportions. A large JPEG is decoded at a half, a quarter or an eighth of its size, the smallest
    whose shorter side is at least `GAP` times `image_size`: a photograph of 12 megapixels takes a
    third of the time.
    """
    with _opened(file) as image:
        image.draft(None, (GAP * image_size, GAP * image_size))
        upright = _upright(image)
        return np.asarray(upright.resize((image_size, image_size), Image.Resampling.BILINEAR))


def decode_upright(file: BinaryIO, longest_side: int) -> Image.Image:
    """Decode an image file from its beginning, as RGB, to be shown at `longest_side` pixels.

    It keeps its own size, but a large JPEG is decoded at a half, a quarter or an eighth of it, the
    smallest whose longer side is at least `longest_side`.

    The image is turned upright by its EXIF orientation. Of several frames or pages it is the first.
    What is transparent is laid over white, as a page or a viewer shows it: the colours under
    transparent pixels are what a program happened to leave there, often black.

    Raises:
        UndecodableError: if it isn't a complete image, is a mere preview of one, has more than
            `MOST_PIXELS` pixels as it is decoded, or its values have no known range.
    """
    with _opened(file) as image:
        width, height = image.size
        image.draft(None, (longest_side, 1) if width > height else (1, longest_side))
        return _upright(image)


@functools.cache
def formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this build of Pillow can open; none runs another program."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """Open an image file; any error in the block is an `UndecodableError`."""
    _silence_libtiff()
    kind = ""
    try:
        with Image.open(file, formats=formats()) as image:
            kind = f"{image.format} that can't be decoded: "
            yield image
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise UndecodableError(_why_unidentified(file)) from None
    except Exception as error:  # decoders raise errors of any kind for a corrupt file
        reason = printable(f"{kind}{type(error).__name__}: {str(error).strip()}")
        raise UndecodableError(shorten(reason, LONGEST_REASON)) from None


def _why_unidentified(file: BinaryIO) -> str:
    """Return what is wrong with a file of none of the `formats`, by its first bytes."""
    file.seek(0)
    start = file.read(LONGEST_BEGINNING)
    for name, (factory, accepts) in Image.OPEN.items():
        # Pillow gives 16 bytes
        if name not in formats() and accepts is not None and accepts(start[:16]) is True:
            description = getattr(factory, "format_description", "a file")
            return f"{description} ({name}) is not opened; save it as PNG"
    for begins in (start.removeprefix(codecs.BOM_UTF8).lstrip().lower(), start[4:].lower()):
        for beginning, kind in BEGINNINGS.items():
            if begins.startswith(beginning):
                return f"not an image that can be read: {kind}"
    return "not an image that can be read"


def _upright(image: Image.Image) -> Image.Image:
    """Return the pixels as RGB and upright; an image that is both isn't copied."""
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"{pixels:,} pixels are more than {MOST_PIXELS:,}, the most that are decoded; resize it"
        )
    if (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & REDUCED
    ):
        raise ValueError(
            "a reduced image, such as the preview in a camera's raw; save it as JPEG or PNG"
        )
    _match_transparency(image)
    white = _white_of_grey(image)
    image.load()  # some formats hold the orientation behind the pixels
    if image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT:
        ImageOps.exif_transpose(image, in_place=True)  # keeps no second copy
    image = _eight_bit(image, white)
    if image.has_transparency_data:
        result = Image.new("RGB", image.size)
        for top in range(0, image.height, BAND):  # all at once would take three copies
            bottom = min(top + BAND, image.height)
            layer = image.crop((0, top, image.width, bottom)).convert("RGBA")
            paper = Image.new("RGBA", layer.size, "white")
            result.paste(Image.alpha_composite(paper, layer).convert("RGB"), (0, top))
        return result
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff from printing, without the file's name, what Pillow raises as an error."""
    with contextlib.suppress(AttributeError, OSError):  # another build of Pillow hasn't got it
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _match_transparency(image: Image.Image) -> None:
    """Bring the colour that a PNG calls transparent to the range to which Pillow brings its pixels.

    To be called before the pixels are loaded: Pillow then forgets in how many bits they were.
    """
    if isinstance(image, PngImagePlugin.PngImageFile) and "transparency" in image.info:
        raw_mode = image.tile[0].args
        if raw_mode in STEPS_OF_GREY:
            image.info["transparency"] *= STEPS_OF_GREY[raw_mode]
        elif raw_mode == "RGB;16B":  # of each value the upper 8 bits are left
            image.info["transparency"] = tuple(each >> 8 for each in image.info["transparency"])


def _white_of_grey(image: Image.Image) -> int | None:
    """Return the value of white in an image of deep grey; None if it isn't one, or nothing says it.

    To be called before the pixels are loaded: a PGM is made to give its values as they are. Pillow
    would spread each over 16 bits by itself, in Python: a second for a megapixel.
    """
    if isinstance(image, PpmImagePlugin.PpmImageFile) and image.mode == "I":
        (tile,) = image.tile
        if tile.codec_name != "ppm":
            return 0xFFFF
        image.tile = [tile._replace(codec_name="raw", args="I;16B")]
        return cast("tuple[str, int]", tile.args)[1]
    if not image.mode.startswith("I;16"):
        return None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return (1 << image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]) - 1
    return 0xFFFF


def _eight_bit(image: Image.Image, white: int | None) -> Image.Image:
    """Bring deep grey down to 8 bits, 0 being black; Pillow's own conversion would clip it."""
    if white is None:
        if image.mode in ("I", "F"):  # 32 bits
            raise ValueError(
                f"pixels of mode {image.mode} have no known range; save it as 8 or 16 bit"
            )
        return image
    is_negative = False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        photometric = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO)
        is_negative = photometric == WHITE_IS_ZERO
    transparent = image.info.get("transparency")
    result = Image.new("L" if transparent is None else "LA", image.size)
    for top in range(0, image.height, BAND):
        values = np.asarray(image.crop((0, top, image.width, min(top + BAND, image.height))))
        grey = (np.minimum(values, white).astype(np.uint32) * 256 // (white + 1)).astype(np.uint8)
        if is_negative:
            grey = 255 - grey
        if transparent is not None:
            grey = np.dstack([grey, np.where(values == transparent, 0, 255).astype(np.uint8)])
        result.paste(Image.fromarray(grey), (0, top))
    return result
