"""Image files of every kind, complete and damaged, with headers that lie."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import ExifTags, Image, features

from tests.fuzz.broken import damaged


def _picture(mode: str, width: int = 13, height: int = 9) -> Image.Image:
    random = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), np.uint16))
    channels = len(Image.getmodebands(mode) * "x") if mode not in ("P", "1") else 3
    pixels = random.integers(0, 256, (height, width, channels), np.uint8)
    if mode in ("RGB", "RGBA", "CMYK"):
        return Image.fromarray(pixels, mode)
    return Image.fromarray(pixels[..., :3] if channels >= 3 else pixels[..., 0]).convert(mode)


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = "a picture"
    return exif.tobytes()


def originals() -> dict[str, bytes]:
    """A small file of each kind, by what is special about it."""
    frames = [_picture("RGB").rotate(90 * turn) for turn in range(3)]
    transparent = _picture("P")
    large = _picture("RGB", 120, 80)
    files = {
        "JPEG": _saved(large, "JPEG"),
        "JPEG, progressive": _saved(large, "JPEG", progressive=True),
        "JPEG, grey": _saved(_picture("L"), "JPEG"),
        "JPEG, CMYK": _saved(_picture("CMYK"), "JPEG"),
        "JPEG, rotated": _saved(large, "JPEG", exif=_exif(6)),
        "JPEG, profile": _saved(large, "JPEG", icc_profile=b"no profile at all" * 9),
        "PNG": _saved(_picture("RGB"), "PNG"),
        "PNG, transparent": _saved(_picture("RGBA"), "PNG"),
        "PNG, palette": _saved(transparent, "PNG", transparency=3),
        "PNG, 1 bit": _saved(_picture("1"), "PNG"),
        "PNG, 16 bit": _saved(_picture("I;16"), "PNG"),
        "PNG, rotated": _saved(_picture("RGB"), "PNG", exif=_exif(8)),
        "PNG, animated": _saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "PNG, text": _saved(_picture("LA"), "PNG"),
        "GIF": _saved(transparent, "GIF", transparency=0),
        "GIF, animated": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "BMP": _saved(_picture("RGB"), "BMP"),
        "BMP, palette": _saved(transparent, "BMP"),
        "WebP": _saved(_picture("RGB"), "WEBP"),
        "WebP, transparent": _saved(_picture("RGBA"), "WEBP", lossless=True),
        "WebP, animated": _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "TIFF": _saved(_picture("RGB"), "TIFF"),
        "TIFF, LZW": _saved(_picture("RGB"), "TIFF", compression="tiff_lzw"),
        "TIFF, deflate": _saved(_picture("RGB"), "TIFF", compression="tiff_adobe_deflate"),
        "TIFF, JPEG": _saved(_picture("RGB"), "TIFF", compression="jpeg"),
        "TIFF, 16 bit": _saved(_picture("I;16"), "TIFF"),
        "TIFF, CMYK": _saved(_picture("CMYK"), "TIFF"),
        "TIFF, pages": _saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "PPM": _saved(_picture("RGB"), "PPM"),
        "PGM, 16 bit": _saved(_picture("I;16"), "PPM"),
        "PGM, 12 bit": b"P5 13 9 4095\n" + bytes(range(2 * 9 * 13)),
        "PostScript": _saved(_picture("RGB"), "EPS"),
        "ICO": _saved(_picture("RGBA", 16, 16), "ICO"),
        "TGA": _saved(_picture("RGBA"), "TGA", compression="tga_rle"),
        "PCX": _saved(_picture("P"), "PCX"),
        "SGI": _saved(_picture("RGB"), "SGI"),
        "ICNS": _saved(_picture("RGBA", 16, 16), "ICNS"),
        "text": b"This is no image.\n" * 9,
        "nothing": b"",
    }
    for kind, feature in (("JPEG2000", "jpg_2000"), ("AVIF", "avif")):
        if features.check(feature):
            files[kind] = _saved(_picture("RGB", 32, 32), kind)
    return files


ORIGINALS = originals()
SIDES = st.sampled_from([0, 1, 255, 4_000, 9_459, 13_000, 65_535]) | st.integers(0, 65_535)
LARGE_SIDES = SIDES | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1])


@st.composite
def lying_png(draw: st.DrawFn) -> bytes:
    """A PNG whose header names another size, depth or colour type, with a checksum that is right.

    Its pixels may all be there: black ones take a thousandth of their room.
    """
    width, height = draw(LARGE_SIDES), draw(LARGE_SIDES)
    depth = draw(st.sampled_from([1, 2, 4, 8, 16]))
    colours = draw(st.sampled_from([0, 2, 3, 4, 6]))
    interlaced = draw(st.sampled_from([0, 0, 1]))
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    pixels = zlib.compress(bytes(draw(st.sampled_from([0, 1000, 4_000_000]))), 1)
    chunks = [(b"IHDR", header), (b"PLTE", bytes(range(48))), (b"IDAT", pixels), (b"IEND", b"")]
    if colours in (0, 4):
        del chunks[1]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


# Where the width and the height stand, and how.
SIZES = {
    "GIF": (6, "<HH"),
    "GIF, animated": (6, "<HH"),
    "BMP": (18, "<ii"),
    "BMP, palette": (18, "<ii"),
    "TGA": (12, "<HH"),
    "SGI": (6, ">HH"),
}


@st.composite
def lying_header(draw: st.DrawFn) -> bytes:
    """A file of another kind whose header names another size."""
    name = draw(st.sampled_from([*SIZES, "JPEG", "JPEG, progressive", "JPEG, CMYK"]))
    content = bytearray(ORIGINALS[name])
    if name in SIZES:
        at, form = SIZES[name]
        largest = 2**31 - 1 if form.endswith("i") else 65_535
        sides = [min(draw(LARGE_SIDES), largest) for _ in range(2)]
    else:
        marker = b"\xff\xc2" if "progressive" in name else b"\xff\xc0"
        at, form = content.index(marker) + 5, ">HH"
        sides = [draw(SIDES), draw(SIDES)]
    content[at : at + struct.calcsize(form)] = struct.pack(form, *sides)
    return bytes(content)


def image_files() -> st.SearchStrategy[bytes]:
    """Image files of all kinds, most of them damaged."""
    any_original = st.sampled_from(sorted(ORIGINALS)).flatmap(lambda name: damaged(ORIGINALS[name]))
    spliced = st.tuples(any_original, any_original, st.integers(0, 200)).map(
        lambda parts: parts[0][: parts[2]] + parts[1][parts[2] :]
    )
    return st.one_of(any_original, any_original, spliced, lying_png(), lying_header())
