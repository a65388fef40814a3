"""One's own images: what is odd comes out right, what can't be used is named with the reason."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
import shutil
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from pipeline.commands.prediction_images import list_images, read_image
from pipeline.data import arrays
from pipeline.data.own_files import unchanged
from pipeline.data.sources import decoding, image_folder, registry
from pipeline.data.sources.decoding import UndecodableError
from pipeline.data.sources.listing import Found, examine
from pipeline.settings.schema import Data, Split
from pipeline.stages import download, split
from pipeline.system.errors import InputError, StageError

SIZE = 8
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
INVISIBLE = 5  # of 255: 2 % of a pixel's range
LOSSY = 3  # of 255: what JPEG may change in an area of one colour
HEVC = 6  # the same of HEVC and AV1


class Folder:
    """A folder of images and what the first two stages make of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local = root / "local"
        self.raw = root / "raw"
        self.splits = root / "splits"

    def fetch(self) -> None:
        download.run(self.data(), self.raw, self.root / "downloads")

    def split(self, unusable_files: str = "set_aside", folds: int | None = None) -> arrays.Dataset:
        settings = Split(
            seed=0, validation_fraction=0.3, test_fraction=0.3, folds=folds, max_per_class=None
        )
        split.run(self.data(unusable_files), settings, self.raw, self.splits)
        return arrays.read(self.splits)

    def data(self, unusable_files: str = "set_aside") -> Data:
        return Data(
            name="image_folder",
            path=str(self.local),
            labels=None,
            image_size=SIZE,
            normalisation="training",
            unusable_files=unusable_files,
        )

    def rejected(self) -> dict[str, str]:
        return {row["path"]: row["reason"] for row in table(self.splits / "rejected.csv")}

    def images(self) -> dict[str, np.ndarray]:
        """Each image that was kept, uint8 (8, 8, 3), by its path."""
        origins = [row["origin"] for row in table(self.splits / "index.csv")]
        return dict(zip(origins, arrays.read(self.splits).images, strict=True))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def pets(tmp_path: Path) -> Folder:
    """Give a folder of two classes with five images each."""
    folder = Folder(tmp_path)
    for number, class_name in enumerate(("cat", "dog")):
        (folder.local / class_name).mkdir(parents=True)
        for shade in range(5):
            colour = (shade, number, 0)
            Image.new("RGB", (SIZE, SIZE), colour).save(folder.local / class_name / f"{shade}.png")
    return folder


def halves(mode: str, left: object, right: object) -> Image.Image:
    """Draw an image of two colours, the left half in one and the right half in the other."""
    image = Image.new(mode, (SIZE, SIZE), left)
    image.paste(right, (SIZE // 2, 0, SIZE, SIZE))
    return image


def assert_halves(
    image: np.ndarray, left: tuple[int, ...], right: tuple[int, ...], within: int = 0
) -> None:
    for half, colour in ((image[:, : SIZE // 2], left), (image[:, SIZE // 2 :], right)):
        assert np.abs(half.astype(int) - colour).max() <= within


def palette(**transparency: object) -> Image.Image:
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([0, 0, 0, *RED, *BLUE])
    image.paste(2, (SIZE // 2, 0, SIZE, SIZE))
    image.info |= transparency
    return image


def png(
    width: int, height: int, depth: int, colour_type: int, rows: bytes, transparent: bytes = b""
) -> bytes:
    """Encode a PNG by hand (PNG specification, 5), in depths that Pillow doesn't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">2I5B", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if transparent:
        parts.insert(1, (b"tRNS", transparent))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


def packed(left: int, right: int, bits: int) -> bytes:
    """One row of an image of two values, as many pixels to a byte as go in."""
    row = "".join(f"{value:0{bits}b}" for value in (left, right) for _ in range(SIZE // 2))
    return int(row, 2).to_bytes(SIZE * bits // 8, "big")


def grey_png(bits: int, left: int, right: int, transparent: int) -> bytes:
    row = b"\0" + packed(left, right, bits)
    return png(SIZE, SIZE, bits, 0, row * SIZE, struct.pack(">H", transparent))


def tiff(byte_order: str, bits: int, rows: bytes, white_is_zero: bool = False) -> bytes:
    """Encode a grey TIFF by hand (TIFF 6.0, sections 2 and 4): one strip, not compressed."""
    directory = {256: SIZE, 257: SIZE, 258: bits, 259: 1, 262: 0 if white_is_zero else 1}
    directory |= {273: 8, 277: 1, 278: SIZE, 279: len(rows)}
    head = struct.pack(
        f"{byte_order}2sHI", b"II" if byte_order == "<" else b"MM", 42, 8 + len(rows)
    )
    entries = b""
    for tag, value in directory.items():  # of type LONG (4), one value each
        entries += struct.pack(f"{byte_order}HHII", tag, 4, 1, value)
    return head + rows + struct.pack(f"{byte_order}H", len(directory)) + entries + bytes(4)


def pnm(kind: bytes, most: int, left: tuple[int, ...], right: tuple[int, ...]) -> bytes:
    """Encode a PGM or PPM by hand (netpbm's pgm(5), ppm(5)); `most` is what white is."""
    values = [*left * (SIZE // 2), *right * (SIZE // 2)] * SIZE
    if kind in (b"P2", b"P3"):
        pixels = " ".join(map(str, values)).encode()
    else:
        pixels = struct.pack(f">{len(values)}{'B' if most < 256 else 'H'}", *values)
    return b"%b\n# by hand\n%d %d\n%d\n" % (kind, SIZE, SIZE, most) + pixels


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def heic(image: Image.Image | None = None) -> bytes:
    """Encode an image as iPhones do: lying on its side, with the turn in the file (and in EXIF)."""
    lying = (image or halves("RGB", RED, BLUE)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    if lying.mode == "RGB":
        lying.info["exif"] = exif.tobytes()  # where pillow-heif's encoder looks for it
    else:
        lying = lying.transpose(Image.Transpose.ROTATE_270)
    return encoded(lying, "HEIF", quality=100, chroma=444)


def sixteen_bit_rgb(right: bytes, transparent: bytes = b"") -> bytes:
    line = b"\0" + struct.pack(">3H", 0xFFFF, 0, 0) * 4 + right * 4
    return png(SIZE, SIZE, 16, 2, line * SIZE, transparent)


def sixteen_bit_grey(byte_order: str) -> bytes:
    values = np.full((SIZE, SIZE), 0x4000, np.uint16)
    values[:, SIZE // 2 :] = 0xC000
    if byte_order == "png":
        return encoded(Image.fromarray(values), "PNG")
    return tiff(byte_order, 16, values.astype(f"{byte_order}u2").tobytes())


def negative(bits: int) -> bytes:
    """Encode a TIFF in which a quarter of the largest value is left, three quarters right."""
    left, right = 1 << (bits - 2), 3 << (bits - 2)
    if bits == 16:
        return tiff("<", 16, struct.pack("<8H", *[left] * 4, *[right] * 4) * SIZE, True)
    return tiff("<", bits, packed(left, right, bits) * SIZE, True)


DEEP_HALVES = ((0x40,) * 3, (0xC0,) * 3)
FIFTHS = ((51,) * 3, (204,) * 3)
HALF_RED = (255, 127, 127)  # over white, by alpha 128 of 255
FRAMES = [halves("RGB", BLUE, RED)]

# file name: its bytes, what it should look like left and right, how exactly
ODD: dict[str, tuple[bytes, tuple[int, ...], tuple[int, ...], int]] = {
    "grey.png": (encoded(halves("L", 40, 200), "PNG"), (40,) * 3, (200,) * 3, 0),
    "rgba.png": (
        encoded(halves("RGBA", (255, 0, 0, 128), (0, 0, 0, 0)), "PNG"),
        HALF_RED,
        WHITE,
        1,
    ),
    "la.png": (encoded(halves("LA", (40, 255), (0, 0)), "PNG"), (40,) * 3, WHITE, 0),
    "rgb transparent.png": (
        encoded(halves("RGB", RED, BLUE), "PNG", transparency=BLUE),
        RED,
        WHITE,
        0,
    ),
    "palette.png": (encoded(palette(), "PNG"), RED, BLUE, 0),
    "palette transparent.png": (encoded(palette(), "PNG", transparency=2), RED, WHITE, 0),
    "palette alpha.png": (
        encoded(palette(), "PNG", transparency=bytes([255, 128, 255])),
        HALF_RED,
        BLUE,
        1,
    ),
    "transparent.gif": (encoded(palette(), "GIF", transparency=2), RED, WHITE, 0),
    "cmyk adobe.jpg": (
        encoded(halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), "JPEG", quality=100),
        RED,
        BLUE,
        LOSSY,
    ),
    "cmyk.tiff": (
        encoded(halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), "TIFF"),
        RED,
        BLUE,
        0,
    ),
    "one bit.png": (encoded(halves("1", 0, 1), "PNG"), (0,) * 3, WHITE, 0),
    "deep.png": (sixteen_bit_grey("png"), *DEEP_HALVES, 0),
    "deep little.tiff": (sixteen_bit_grey("<"), *DEEP_HALVES, 0),
    "deep big.tiff": (sixteen_bit_grey(">"), *DEEP_HALVES, 0),
    "deep rgb.png": (sixteen_bit_rgb(struct.pack(">3H", 0, 0, 0xFFFF)), RED, BLUE, 0),
    # a fifth and four fifths of what is white: 51 and 204 of 255
    "deep.pgm": (pnm(b"P5", 65535, (13107,), (52428,)), *FIFTHS, 0),
    "deep ascii.pgm": (pnm(b"P2", 65535, (13107,), (52428,)), *FIFTHS, 0),
    "12 bit.pgm": (pnm(b"P5", 4095, (819,), (3276,)), *FIFTHS, 0),
    "12 bit ascii.pgm": (pnm(b"P2", 4095, (819,), (3276,)), *FIFTHS, 0),
    "10 bit.pgm": (pnm(b"P5", 1020, (204,), (816,)), *FIFTHS, 0),
    "7 bit.pgm": (pnm(b"P5", 125, (25,), (100,)), *FIFTHS, 0),
    "8 bit.pgm": (pnm(b"P5", 255, (51,), (204,)), *FIFTHS, 0),
    "deep.ppm": (pnm(b"P6", 65535, (65535, 0, 0), (0, 0, 65535)), RED, BLUE, 0),
    "12 bit ascii.ppm": (pnm(b"P3", 4095, (4095, 0, 0), (0, 0, 4095)), RED, BLUE, 0),
    "12 bit.tiff": (tiff("<", 12, packed(0x400, 0xC00, 12) * SIZE), *DEEP_HALVES, 0),
    # 1 - 1/4 and 1 - 3/4 of white; in 4 bits a quarter is 4 of 15
    "negative 16 bit.tiff": (negative(16), (0xBF,) * 3, (0x3F,) * 3, 0),
    "negative 8 bit.tiff": (negative(8), (0xBF,) * 3, (0x3F,) * 3, 0),
    "negative 4 bit.tiff": (negative(4), (11 * 17,) * 3, (3 * 17,) * 3, 0),
    "1 bit transparent.png": (grey_png(1, 0, 1, transparent=0), WHITE, WHITE, 0),
    "2 bit transparent.png": (grey_png(2, 1, 2, transparent=2), (85,) * 3, WHITE, 0),
    "4 bit transparent.png": (grey_png(4, 3, 10, transparent=10), (51,) * 3, WHITE, 0),
    "8 bit transparent.png": (grey_png(8, 51, 10, transparent=10), (51,) * 3, WHITE, 0),
    "16 bit rgb transparent.png": (
        sixteen_bit_rgb(*[b"\x12\x34\x56\x78\x9a\xbc"] * 2),
        RED,
        WHITE,
        0,
    ),
    # nearly the transparent value, and it
    "16 bit transparent.png": (grey_png(16, 0x1235, 0x1234, 0x1234), (0x12,) * 3, WHITE, 0),
    "animated.gif": (
        encoded(halves("RGB", RED, BLUE), "GIF", save_all=True, append_images=FRAMES),
        RED,
        BLUE,
        0,
    ),
    "animated.png": (
        encoded(halves("RGB", RED, BLUE), "PNG", save_all=True, append_images=FRAMES),
        RED,
        BLUE,
        0,
    ),
    "pages.tiff": (
        encoded(halves("RGB", RED, BLUE), "TIFF", save_all=True, append_images=FRAMES),
        RED,
        BLUE,
        0,
    ),
    "iphone.HEIC": (heic(), RED, BLUE, HEVC),
    "heif.heif": (heic().replace(b"ftypheic", b"ftypmif1"), RED, BLUE, HEVC),
    "transparent.heic": (
        heic(halves("RGBA", (255, 0, 0, 128), (0, 0, 0, 0))),
        HALF_RED,
        WHITE,
        HEVC,
    ),
    "grey.heic": (heic(halves("L", 40, 200)), (40,) * 3, (200,) * 3, HEVC),
    "avif.avif": (
        encoded(halves("RGB", RED, BLUE), "AVIF", quality=100, subsampling="4:4:4"),
        RED,
        BLUE,
        HEVC,
    ),
    "UPPER.PNG": (encoded(halves("RGB", RED, BLUE), "PNG"), RED, BLUE, 0),
    "png called.jpg": (encoded(halves("RGB", RED, BLUE), "PNG"), RED, BLUE, 0),
    "no ending": (encoded(halves("RGB", RED, BLUE), "PNG"), RED, BLUE, 0),
}

PHOTO = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "RGB"
)
FLOATS = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
INTEGERS = Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8))

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
1 0 0 setrgbcolor 0 0 8 8 rectfill showpage
%%EOF
"""

# file name: its bytes, and how the reason has to begin or what it has to contain
BAD: dict[str, tuple[bytes, str]] = {
    "truncated.jpg": (
        encoded(PHOTO, "JPEG")[:-1000],
        "JPEG that can't be decoded: OSError: image file is truncated",
    ),
    "truncated progressive.jpg": (
        encoded(PHOTO, "JPEG", progressive=True)[:-1000],
        "image file is truncated",
    ),
    "truncated.png": (encoded(PHOTO, "PNG")[:-3000], "truncated"),
    "truncated.gif": (encoded(PHOTO, "GIF")[:-1000], "truncated"),
    "truncated.tiff": (encoded(PHOTO, "TIFF")[:-1000], "image file is truncated"),
    # a camera's raw begins with its thumbnail: bit 0 of NewSubfileType, TIFF 6.0, section 8
    "raw.nef": (encoded(PHOTO, "TIFF", tiffinfo={254: 1}), "a reduced image, such as the preview"),
    "truncated.heic": (
        encoded(PHOTO, "HEIF")[:-1000],
        "HEIF that can't be decoded: ValueError: Invalid input: Unexpected end of file",
    ),
    "header.heic": (
        encoded(PHOTO, "HEIF")[:200],
        "not an image that can be read: HEIC, incomplete or corrupt",
    ),
    "header.jpg": (
        encoded(PHOTO, "JPEG")[:20],
        "not an image that can be read: JPEG, incomplete or corrupt",
    ),
    "notes.jpg": (b"not an image", "not an image that can be read"),
    "page.jpg": (b"\n<!DOCTYPE html><html></html>", "read: HTML, a web page"),
    "drawing.png": (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "read: XML, such as SVG"),
    "scan.jpg": (b"%PDF-1.7\n", "read: PDF"),
    "live.heic": (b"\0\0\0\x14ftypqt  " + bytes(99), "read: a video (MP4, MOV)"),
    "photo.cr3": (b"\0\0\0\x18ftypcrx " + bytes(99), "read: a camera's raw (CR3)"),
    "photo.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "read: JPEG XL"),
    "empty.png": (b"", "empty: 0 bytes"),
    "postscript.png": (POSTSCRIPT, "Encapsulated Postscript (EPS) is not opened; save it as PNG"),
    "metafile.png": (
        b"\xd7\xcd\xc6\x9a" + bytes(18),  # [MS-WMF] 2.3.2.3, the placeable header's key
        "Windows Metafile (WMF) is not opened; save it as PNG",
    ),
    "bomb.png": (png(60_000, 60_000, 1, 0, bytes(9)), "could be decompression bomb"),
    "floats.tiff": (encoded(FLOATS, "TIFF"), "mode F have no known range; save it as 8 or 16"),
    "integers.tiff": (encoded(INTEGERS, "TIFF"), "mode I have no known range; save it as 8 or 16"),
}


def test_odd_kinds_of_images_come_out_as_they_were_drawn(pets: Folder) -> None:
    for name, (content, *_) in ODD.items():
        (pets.local / "cat" / name).write_bytes(content)
    pets.fetch()
    pets.split()
    assert pets.rejected() == {}
    images = pets.images()
    for name, (_, left, right, within) in ODD.items():
        assert_halves(images[f"cat/{name}"], left, right, within)


def test_postscript_runs_no_program(pets: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, mark = pets.root / "programs", pets.root / "it has run"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # it remembers whether there is one
    path = pets.local / "cat" / "cat.png"
    path.write_bytes(POSTSCRIPT)
    with Image.open(path) as image, contextlib.suppress(OSError):
        image.load()
    assert mark.exists()  # Pillow would run it
    mark.unlink()
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    pets.fetch()
    pets.split()
    assert list(pets.rejected()) == ["cat/cat.png"]
    with pytest.raises(UndecodableError, match="Postscript"):
        read_image(path, SIZE, 3)
    path.rename(pets.local / "cat.eps")
    assert len(list_images([pets.local], pets.root / "out")) == 10
    assert not mark.exists()


def test_a_pgm_of_twelve_bits_is_decoded_as_fast_as_one_of_sixteen() -> None:
    seconds = {}
    for most in (65535, 65535, 4095):  # the first time Pillow imports its decoders
        content = b"P5 1500 1000 %d\n" % most + bytes(2 * 1500 * 1000)
        start = time.process_time()
        decoding.decode(io.BytesIO(content), SIZE)
        seconds[most] = time.process_time() - start
    assert seconds[4095] < 10 * seconds[65535]  # 40 times where Pillow scales each value in Python


def test_images_whose_byte_order_or_encoding_matters_are_what_their_names_say() -> None:
    modes = {}
    for name in ("deep.png", "deep little.tiff", "deep big.tiff", "deep rgb.png", "cmyk adobe.jpg"):
        with Image.open(io.BytesIO(ODD[name][0])) as image:
            modes[name] = image.mode
    assert modes["deep little.tiff"] == "I;16"
    assert modes["deep big.tiff"] == "I;16B"
    assert (modes["deep rgb.png"], modes["cmyk adobe.jpg"]) == ("RGB", "CMYK")
    adobe_marker = b"\xff\xee\x00\x0eAdobe"
    assert adobe_marker in ODD["cmyk adobe.jpg"][0]


@pytest.mark.parametrize(
    ("orientation", "stored_as"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),  # is shown turned by 90 degrees clockwise
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_are_turned_upright(
    pets: Folder, orientation: int, stored_as: Image.Transpose | None, kind: str
) -> None:
    upright = halves("RGB", RED, WHITE)
    upright.paste(BLUE, (0, 0, SIZE, SIZE // 2))
    upright.paste((0, 255, 0), (0, 0, SIZE // 2, SIZE // 2))  # four different quarters
    stored = upright if stored_as is None else upright.transpose(stored_as)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    (pets.local / "cat" / "turned").write_bytes(encoded(stored, kind, exif=exif, **options))
    pets.fetch()
    pets.split()
    difference = pets.images()["cat/turned"].astype(int) - np.asarray(upright)
    assert np.abs(difference).max() <= (LOSSY if kind == "JPEG" else 0)


def photograph(width: int, height: int) -> Image.Image:
    """Draw large and small shapes of many colours."""
    pixels = np.zeros((height, width, 3))
    for cells in (3, 8):
        noise = np.random.default_rng(0).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((width, height)))
    return Image.fromarray((pixels / 2).astype(np.uint8))


def pillows(content: bytes) -> np.ndarray:
    """Decode an image at its full size with Pillow and resize it once."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize("times", [1, 3, 5.9])
def test_a_jpeg_is_decoded_at_its_own_size_where_half_of_it_would_be_too_little(
    times: float,
) -> None:
    content = encoded(photograph(round(times * SIZE), 20 * SIZE), "JPEG")
    assert np.array_equal(decoding.decode(io.BytesIO(content), SIZE), pillows(content))


@pytest.mark.parametrize("times", [6, 12, 24, 25])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(photograph(times * SIZE, (times + 1) * SIZE), "JPEG", quality=95)
    decoded: list[tuple[int, int]] = []
    original = decoding._upright

    def measured(picture: Image.Image) -> Image.Image:
        upright = original(picture)
        decoded.append(upright.size)
        return upright

    monkeypatch.setattr(decoding, "_upright", measured)
    difference = decoding.decode(io.BytesIO(content), SIZE) - pillows(content)
    assert np.abs(difference).max() <= INVISIBLE
    assert 3 * SIZE <= min(decoded[0]) < 6 * SIZE


def test_a_large_turned_photograph_is_the_same_to_split_and_to_predict(pets: Folder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = pets.local / "cat" / "large.jpg"
    path.write_bytes(encoded(photograph(400, 300), "JPEG", exif=exif))
    pets.fetch()
    pets.split()
    picture = read_image(path, SIZE, 3)
    assert np.array_equal(picture.pixels, pets.images()["cat/large.jpg"])
    assert picture.shown.shape == (400, 300, 3)


def make_special_files(folder: Path) -> dict[str, str]:
    """Make what is no file, and files that can't be opened or named; return name and reason."""
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "round.png").symlink_to("about.png")
    (folder / "about.png").symlink_to("round.png")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket.png"))
    (folder / "zero.png").symlink_to("/dev/zero")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(encoded(PHOTO, "PNG"))
    return {
        "dangling.png": "a link to what does not exist (nowhere.png)",
        "round.png": "can't be read: Too many levels of symbolic links",
        "about.png": "can't be read: Too many levels of symbolic links",
        "pipe.png": "can't be read: it is a named pipe, not a file",
        "socket.png": "can't be read: it is a socket, not a file",
        "zero.png": "can't be read: it is a device, not a file",
        "caf\\xe9.png": "its name isn't UTF-8; rename it",
    }


def test_every_kind_of_unusable_file_is_set_aside_with_its_reason(
    pets: Folder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pets.root)  # the path of a socket must be short
    for name, (content, _) in BAD.items():
        (pets.local / "cat" / name).write_bytes(content)
    special = make_special_files(pets.local / "cat")
    (pets.local / "lost.png").write_bytes(encoded(PHOTO, "PNG"))
    pets.fetch()
    dataset = pets.split()
    rejected = pets.rejected()
    for name, (_, reason) in BAD.items():
        assert reason in rejected.pop(f"cat/{name}"), name
    assert rejected.pop("lost.png") == "lies in no class: move it into a sub-folder"
    assert rejected == {f"cat/{name}": reason for name, reason in special.items()}
    count = len(BAD) + len(special) + 1
    assert dataset.rejected == count
    said = capfd.readouterr().err
    assert f"; {count} set aside, see {pets.splits / 'rejected.csv'}" in said
    images = pets.images()
    assert len(images) == 10
    for shade in range(5):
        assert_halves(images[f"cat/{shade}.png"], (shade, 0, 0), (shade, 0, 0))
        assert_halves(images[f"dog/{shade}.png"], (shade, 1, 0), (shade, 1, 0))


def test_predict_takes_photographs_of_iphones(pets: Folder) -> None:
    path = pets.local / "cat" / "IMG_0001.HEIC"
    path.write_bytes(heic())
    assert path in list_images([pets.local], pets.root / "out")
    image = read_image(path, SIZE, 3)
    assert_halves(image.pixels, RED, BLUE, HEVC)
    assert_halves(image.shown, RED, BLUE, HEVC)


def test_a_truncated_jpeg_has_a_header_that_pillow_takes_for_good() -> None:
    with Image.open(io.BytesIO(BAD["truncated.jpg"][0])) as image:
        image.verify()
        assert (image.format, image.size) == ("JPEG", (64, 64))


def test_a_run_that_shall_stop_says_every_unusable_file_and_then_stops(
    pets: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    (pets.local / "cat" / "one\ntwo.png").write_bytes(b"not an image")
    (pets.local / "dog" / "empty.png").write_bytes(b"")
    pets.fetch()
    capfd.readouterr()
    with pytest.raises(InputError) as error:
        pets.split("stop")
    assert str(error.value) == (
        "params.yaml: data.unusable_files: 'stop', and 2 files can't be used (listed above); "
        "fix or remove them, or choose 'set_aside'"
    )
    assert capfd.readouterr().err.splitlines() == [
        r"cat/one\ntwo.png: not an image that can be read",
        "dog/empty.png: empty: 0 bytes",
    ]
    assert not pets.splits.exists()


def test_a_run_that_shall_stop_goes_on_where_all_files_are_good(pets: Folder) -> None:
    pets.fetch()
    assert pets.split("stop").rejected == 0


def test_a_class_left_without_a_usable_image_is_named_with_its_files(
    pets: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    (pets.local / "emu").mkdir()
    (pets.local / "emu" / "a.png").write_bytes(b"")
    (pets.local / "emu" / "b.png").symlink_to("nowhere")
    (pets.local / "cat" / "empty.png").write_bytes(b"")
    pets.fetch()
    capfd.readouterr()
    with pytest.raises(InputError, match=r"data\.path: class 'emu' has no usable image \(2 files"):
        pets.split()
    assert capfd.readouterr().err.splitlines() == [
        "emu/a.png: empty: 0 bytes",
        "emu/b.png: a link to what does not exist (nowhere)",
    ]


def test_each_file_is_decoded_once_and_in_the_split_stage(
    pets: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(file: io.BufferedReader, image_size: int) -> np.ndarray:
        decoded.append(Path(file.name).relative_to(pets.local).as_posix())
        return original(file, image_size)

    original: Callable[..., np.ndarray] = image_folder.decode
    monkeypatch.setattr(image_folder, "decode", counting)
    (pets.local / "cat" / "notes.jpg").write_bytes(b"not an image")
    pets.fetch()
    assert decoded == []
    pets.split()
    assert sorted(decoded) == sorted([*pets.images(), "cat/notes.jpg"])


def test_decoded_images_lie_in_a_file_and_not_in_memory(pets: Folder) -> None:
    (pets.local / "cat" / "00.png").write_bytes(b"not an image")
    pets.fetch()
    scratch = pets.root / "scratch"
    scratch.mkdir()
    source = registry.SOURCES["image_folder"]
    collection = source.read(pets.raw, pets.data(), scratch)
    assert isinstance(collection.images, np.memmap)
    assert collection.images.filename == scratch / "decoded.npy"
    assert len(collection.images) == 10


NAMES = (
    "blank space.png",
    "größe 猫.png",
    "comma, quote\" and 'another.png",
    "new\nline.png",
    "carriage\rreturn.png",
    "both\r\n.png",
    "=formula().png",
    "back\\slash.png",
    "nested, deep/er/x.png",
)


def test_names_of_all_kinds_reach_the_index_as_they_are(pets: Folder) -> None:
    for position, name in enumerate(NAMES):
        path = pets.local / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), (0, 0, 100 + position)).save(path, "PNG")
        path.with_name(f"{path.name}.txt").write_bytes(b"no image")
    pets.fetch()
    pets.split()
    images = pets.images()
    for position, name in enumerate(NAMES):
        assert_halves(images[f"cat/{name}"], (0, 0, 100 + position), (0, 0, 100 + position))
    assert set(pets.rejected()) == {f"cat/{name}.txt" for name in NAMES}


def test_hidden_files_and_readmes_are_no_images_and_no_errors(pets: Folder) -> None:
    for name in (".DS_Store", "._0.png", "README.txt"):
        (pets.local / "cat" / name).write_bytes(b"no image")
    (pets.local / ".git").mkdir()
    (pets.local / "cat" / ".cache").mkdir()
    (pets.local / "cat" / ".cache" / "x.png").write_bytes(b"no image")
    (pets.local / "README.md").write_bytes(b"no image")
    (pets.local / "cat" / "readme").mkdir()
    Image.new("RGB", (SIZE, SIZE), RED).save(pets.local / "cat" / "readme" / "x.png")
    pets.fetch()
    assert pets.split("stop").rejected == 0
    assert len(pets.images()) == 11
    assert_halves(pets.images()["cat/readme/x.png"], RED, RED)


FILES_OF_SYSTEMS = (
    *("Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "DESKTOP.INI"),  # Windows
    "Icon\r",  # macOS
)
FOLDERS_OF_SYSTEMS = (
    *("$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "FOUND.000", "found.017"),
    *("__MACOSX", ".Trashes", "Network Trash Folder", "Temporary Items"),
    "lost+found",
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),  # Synology, QNAP
)


@pytest.mark.parametrize("inside", ["", "cat", "cat/more"])
def test_what_systems_make_is_no_image_and_no_class(pets: Folder, inside: str) -> None:
    place = pets.local / inside
    place.mkdir(exist_ok=True)
    for name in FILES_OF_SYSTEMS:
        (place / name).write_bytes(b"no image")
    for name in FOLDERS_OF_SYSTEMS:
        (place / name / "SYNOPHOTO_THUMB_XL.jpg").parent.mkdir()
        Image.new("RGB", (SIZE, SIZE), RED).save(place / name / "SYNOPHOTO_THUMB_XL.jpg")
    pets.fetch()
    assert pets.split("stop").classes == ("cat", "dog")
    assert len(pets.images()) == 10
    assert len(list_images([pets.local], pets.root / "out")) == 10


@pytest.mark.parametrize("name", ["recycler", "found.0", "temporary", "Icon", "eaDir", "lost"])
def test_a_class_that_is_named_nearly_as_a_system_would_is_one(pets: Folder, name: str) -> None:
    (pets.local / "dog").rename(pets.local / name)
    pets.fetch()
    assert name in pets.split().classes


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("caf\u00e9", "cafe\u0301", r"'cafe\u0301' and 'café'"),
        ("\ud55c", "\u1112\u1161\u11ab", r"'\u1112\u1161\u11ab' and '한'"),
        ("emu", "emu ", "'emu' and 'emu '"),
        (" emu", "emu", "' emu' and 'emu'"),
        ("Emu", "emu", "'Emu' and 'emu'"),
        ("ÉMU", "ému", "'ÉMU' and 'ému'"),
        ("black emu", "black  emu", "'black  emu' and 'black emu'"),
        ("black emu", "black\u00a0emu", r"'black emu' and 'black\xa0emu'"),
        ("emu", "e\u200bmu", r"'emu' and 'e\u200bmu'"),
        ("emu", "emu\n", r"'emu' and 'emu\n'"),
        ("emu", "emu\ufe0f", r"'emu' and 'emu\ufe0f'"),
        ("emu", "emu\u3164", r"'emu' and 'emu\u3164'"),
    ],
)
def test_classes_that_a_person_reads_as_one_are_refused(
    pets: Folder, one: str, other: str, shown: str
) -> None:
    for name in (one, other):
        (pets.local / name).mkdir()
        Image.new("RGB", (SIZE, SIZE)).save(pets.local / name / "0.png")
    with pytest.raises(InputError, match="reads as one") as error:
        pets.fetch()
    assert shown in str(error.value)
    assert str(error.value).isprintable()
    assert not pets.raw.exists()


@pytest.mark.parametrize(
    ("one", "other"), [("Maße", "Masse"), ("m2", "m²"), ("emu", "emus"), ("猫", "狗"), ("कि", "की")]
)
def test_classes_that_a_person_tells_apart_are_two(pets: Folder, one: str, other: str) -> None:
    (pets.local / "cat").rename(pets.local / one)
    (pets.local / "dog").rename(pets.local / other)
    pets.fetch()
    assert set(pets.split().classes) == {one, other}


def test_links_to_files_are_followed(pets: Folder) -> None:
    Image.new("RGB", (SIZE, SIZE), RED).save(pets.root / "red.png")
    (pets.local / "cat" / "soft.png").symlink_to(pets.root / "red.png")
    (pets.local / "cat" / "hard.png").hardlink_to(pets.root / "red.png")
    pets.fetch()
    pets.split()
    assert_halves(pets.images()["cat/soft.png"], RED, RED)
    assert_halves(pets.images()["cat/hard.png"], RED, RED)
    assert len(pets.images()) == 12


def test_a_folder_that_links_to_itself_holds_nothing_more(pets: Folder) -> None:
    (pets.local / "cat" / "self").symlink_to(".")
    (pets.local / "dog" / "up").symlink_to("..")
    pets.fetch()
    pets.split()
    assert len(pets.images()) == 10


def test_predict_follows_links_to_folders_but_not_back_to_one_that_they_lie_in(
    pets: Folder,
) -> None:
    elsewhere = pets.root / "elsewhere"
    (elsewhere / "deeper").mkdir(parents=True)
    for path in (elsewhere / "red.png", elsewhere / "deeper" / "blue.png"):
        Image.new("RGB", (SIZE, SIZE), RED).save(path)
    (elsewhere / "deeper" / "back").symlink_to(elsewhere)
    (pets.local / "cat" / "folder link").symlink_to(elsewhere)
    (pets.local / "cat" / "self").symlink_to(".")
    (pets.local / "dog" / "up").symlink_to("..")
    (pets.local / "emu").symlink_to(pets.local / "dog")
    linked = [path for path in list_images([pets.local], pets.root / "out") if path.is_file()]
    assert len(linked) == 5 + 2 + 5 + 5
    assert pets.local / "cat" / "folder link" / "deeper" / "blue.png" in linked


def rewrite_keeping_size_and_time(path: Path) -> None:
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def move_away_and_link(path: Path) -> None:
    path.parent.rename(path.parents[2] / "elsewhere")
    path.parent.symlink_to(path.parents[2] / "elsewhere")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "rewritten": (rewrite_keeping_size_and_time, "cat/3.png: has changed"),
    "replaced": (replace_by_a_copy, "cat/3.png: has changed"),
    "removed": (Path.unlink, "cat/3.png: is gone"),
    "renamed": (lambda path: path.rename(path.with_name("33.png")), "cat/3.png: is gone"),
    "added": (lambda path: shutil.copy(path, path.with_name("5.png")), "cat/5.png: is new"),
    "added loose": (lambda path: shutil.copy(path, path.parents[1]), "local/3.png: is new"),
    "moved and linked": (move_away_and_link, "cat: has changed"),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("stage", ["download", "split"])
def test_images_that_change_while_a_stage_reads_them_end_it(
    pets: Folder, kind: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = CHANGES[kind]
    pets.fetch()
    module, name, out, run = {
        "download": (registry, "describe", pets.raw, pets.fetch),
        "split": (split.writing, "write", pets.splits, pets.split),
    }[stage]
    shutil.rmtree(out, ignore_errors=True)
    original: Callable[..., object] = getattr(module, name)

    def meanwhile(*arguments: object, **keywords: object) -> object:
        """Change an image after all were read, before the stage ends."""
        change(pets.local / "cat" / "3.png")
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, meanwhile)
    with pytest.raises(StageError, match=message) as error:
        run()
    assert str(error.value).endswith("; run again when they stay as they are")
    assert not out.exists()
    monkeypatch.undo()
    if kind != "moved and linked":
        pets.fetch()
        pets.split()


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("cat/5.png", "added", "is new since the images were listed"),
        ("loose.png", "added", "is new since the images were listed"),
        ("cat/3.png", "rewritten", "has changed since it was listed"),
        ("cat/empty.png", "rewritten", "has changed since it was listed"),
        ("cat/3.png", "removed", "is gone since the images were listed"),
        ("cat/notes.txt", "removed", "is gone since the images were listed"),
    ],
)
def test_images_that_are_not_those_of_the_list_are_not_decoded(
    pets: Folder, path: str, kind: str, message: str
) -> None:
    (pets.local / "cat" / "empty.png").touch()
    (pets.local / "cat" / "notes.txt").write_text("no image")
    Path(os.fsdecode(os.fsencode(pets.local / "cat") + b"/caf\xe9.png")).touch()
    pets.fetch()
    if kind == "removed":
        (pets.local / path).unlink()
    else:
        Image.new("RGB", (SIZE, SIZE), RED).save(pets.local / path)
    with pytest.raises(InputError, match=rf"{path}: {message}; .*dvc repro --force download"):
        pets.split()
    assert not pets.splits.exists()
    pets.fetch()
    pets.split()


def test_a_link_that_is_turned_to_another_file_is_a_change(pets: Folder) -> None:
    link = pets.local / "cat" / "5.png"
    link.symlink_to(pets.local / "cat" / "0.png")
    watched = unchanged(registry.SOURCES["image_folder"], pets.data())
    watched.__enter__()
    link.unlink()
    link.symlink_to(pets.local / "cat" / "1.png")
    with pytest.raises(StageError, match=r"5\.png: has changed"):
        watched.__exit__(None, None, None)


def test_reading_images_and_what_is_left_out_is_no_change(pets: Folder) -> None:
    source = registry.SOURCES["image_folder"]
    (pets.local / "cat" / "gone.png").symlink_to("nowhere")
    with unchanged(source, pets.data()):
        for path in pets.local.glob("*/?.png"):
            path.read_bytes()
        (pets.local / "cat" / ".DS_Store").write_bytes(b"")
        (pets.local / "@eaDir").mkdir()


def test_a_file_that_vanished_or_is_forbidden_is_listed_with_the_reason(
    pets: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = examine(pets.local, Found(pets.local / "cat" / "gone.png", "cat"))
    assert (gone.path, gone.size, gone.sha256) == ("cat/gone.png", 0, "")
    assert gone.unusable == "can't be read: No such file or directory"
    replaced = examine(pets.local, Found(pets.local / "cat", "cat"))
    assert replaced.unusable == "can't be read: it is a folder, not a file"

    original = Path.open

    def forbidden(path: Path, *arguments: object, **keywords: object) -> object:
        if path.name == "3.png":  # root may read what others may not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", forbidden)
    pets.fetch()
    rows = {row["path"]: row for row in table(pets.raw / "manifest.csv")}
    assert rows["cat/3.png"]["unusable"] == "can't be read: Permission denied"
    assert (rows["cat/3.png"]["bytes"], rows["cat/3.png"]["sha256"]) == ("0", "")
    monkeypatch.undo()
    pets.split()
    assert pets.rejected() == dict.fromkeys(
        ("cat/3.png", "dog/3.png"), "can't be read: Permission denied"
    )


def test_a_file_that_can_no_longer_be_read_when_it_is_decoded_is_set_aside(
    pets: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets.fetch()
    original = Path.open

    def broken_disk(path: Path, *arguments: object, **keywords: object) -> object:
        if path == pets.local / "cat" / "2.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", broken_disk)
    assert pets.split().rejected == 1
    assert pets.rejected() == {"cat/2.png": "can't be read: Input/output error"}


@pytest.mark.parametrize("unreadable", ["cat", "cat/deep"])
def test_a_folder_that_cant_be_read_is_named(
    pets: Folder, unreadable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pets.local / "cat" / "deep").mkdir()
    original = Path.iterdir

    def forbidden(path: Path) -> object:
        if path == pets.local / unreadable:  # root may read what others may not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original(path)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    message = rf"data\.path: .*{unreadable}' can't be read \(Permission denied\); change its"
    with pytest.raises(InputError, match=message) as error:
        pets.fetch()
    assert "\n" not in str(error.value)
    assert not pets.raw.exists()


def test_a_class_whose_name_isnt_utf8_is_named_in_print(pets: Folder) -> None:
    Path(os.fsdecode(os.fsencode(pets.local) + b"/\xe9mu")).mkdir()
    with pytest.raises(InputError, match=r"sub-folder '\\xe9mu' has a name that isn't UTF-8"):
        pets.fetch()


def test_the_same_folder_gives_the_same_bytes(pets: Folder) -> None:
    for name, (content, _) in BAD.items():
        (pets.local / "cat" / name).write_bytes(content)
    written = []
    for _ in range(2):
        pets.fetch()
        pets.split()
        files = [path for folder in (pets.raw, pets.splits) for path in folder.iterdir()]
        written.append({path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert len(written[0]) == 2 + 7
    assert written[0] == written[1]


def test_the_threads_dont_hold_all_of_the_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "WAITING", 10)
    taken: list[int] = []

    def arguments() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    results = image_folder._in_parallel(str, arguments())
    assert next(results) == "0"
    assert len(taken) == 10
    assert list(results) == [str(number) for number in range(1, 100)]
