"""A person's own images: which files they are, and what is in them."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.sources.decoding import UndecodableError, decode, decode_upright, formats
from pipeline.data.sources.listing import KINDS, files_under, is_folder, why_unreadable
from pipeline.system.errors import InputError
from pipeline.system.progress import say
from pipeline.system.text import printable

LONGEST_SIDE = 1000  # in pixels, of the image in the figure
MOST_ENDINGS = 5  # of files that are left out, named in the message


@dataclass(frozen=True)
class InputImage:
    """An image file, as a network sees it and as a person does."""

    pixels: np.ndarray  # uint8 (image_size, image_size, C), what the network gets
    shown: np.ndarray  # uint8 (h, w, 3), upright, in its proportions, no side over LONGEST_SIDE


def list_images(given: Sequence[Path], out: Path) -> list[Path]:
    """Return the files that were given and those in the folders that were given, each by path.

    In a folder they are what the source image_folder would list. Files of a kind that Pillow can't
    read, by the ending of their names, are left out and reported once; one without an ending is
    tried. A file that was given is returned whatever it is, and so is a folder that holds nothing,
    for `read_image` to refuse. Nothing in `out`, where results are written, is one to classify.

    Raises:
        InputError: if a folder can't be read, or lies in `out`.
    """
    endings = Image.registered_extensions()
    readable = {ending for ending, kind in endings.items() if kind in formats()} | {""}
    written, paths = _real(out), []
    for place in given:
        if not is_folder(place):
            paths.append(place)
            continue
        if _real(place).is_relative_to(written):
            raise InputError(
                f"--out: '{printable(str(out))}' holds the images themselves; choose another folder"
            )
        left_out: Counter[str] = Counter()
        kept = []
        for path in files_under(place, "IMAGE"):
            if _real(path).is_relative_to(written):
                continue
            if path.suffix.lower() in readable:
                kept.append(path)
            else:
                left_out[printable(path.suffix.lower())] += 1
        paths += kept or [place]
        if left_out:
            kinds = [f"{count} {ending}" for ending, count in left_out.most_common()]
            listed = ", ".join(kinds[:MOST_ENDINGS] + ["..."] * (len(kinds) > MOST_ENDINGS))
            say(f"{printable(str(place))}: left out what can't be read as an image: {listed}")
    return paths


def read_image(path: Path, image_size: int, channels: int) -> InputImage:
    """Decode an image file just as the images of a data set are decoded.

    `image_size` is their height and width in pixels; `channels` are 3 for RGB, 1 for grey: Pillow's
    mode L, luminance by ITU-R 601-2.

    Raises:
        UndecodableError: if it can't be read or isn't a complete image.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind == stat.S_IFDIR:
            raise UndecodableError("a folder without images")
        if kind != stat.S_IFREG:  # a pipe would be waited for
            raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'something else')}, not a file")
        with path.open("rb") as file, warnings.catch_warnings():
            # Pillow's are about the inner life of a file that can be decoded, and don't name it.
            warnings.simplefilter("ignore")
            pixels = decode(file, image_size)
            file.seek(0)
            shown = decode_upright(file, LONGEST_SIDE)
    except OSError as error:
        raise UndecodableError(why_unreadable(path, error)) from None
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]
    return InputImage(pixels, np.asarray(shown))


def _real(path: Path) -> Path:
    """Return where a path leads; unlike `Path.resolve` it takes links that lead in a circle."""
    return Path(os.path.realpath(path))
