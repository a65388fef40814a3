"""`image_folder`: one's own images, one sub-folder per class.

The images stay where they are. `fetch` lists them with their checksums, `read` decodes them.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from pipeline.data.collection import Collection, Rejected
from pipeline.errors import InputError
from pipeline.machine import cores
from pipeline.progress import track

MANIFEST = "manifest.csv"

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Listed:
    """A line of the manifest: a file by its path under the folder, with size and checksum."""

    path: str
    size: int
    sha256: str
    class_name: str


def fetch(raw: Path, local: Path, downloads: Path) -> str:
    """List the images under `local` (data.path) with their checksums in ``manifest.csv``.

    Raises:
        InputError: if the folder is missing, empty, or has fewer than two classes, or a class has
            no images.
    """
    files = _files_by_class(local)
    paths = [(name, path) for name in files for path in files[name]]

    def list_one(entry: tuple[str, Path]) -> Listed:
        name, path = entry
        content = path.read_bytes()
        relative = path.relative_to(local).as_posix()
        return Listed(relative, len(content), hashlib.sha256(content).hexdigest(), name)

    with (raw / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "bytes", "sha256", "class"])
        for listed in track(_in_parallel(list_one, paths), "listing images", total=len(paths)):
            writer.writerow([listed.path, listed.size, listed.sha256, listed.class_name])
    return str(local)


def read(raw: Path, local: Path, image_size: int | None, scratch: Path) -> Collection:
    """Decode the listed images to RGB of `image_size` squared; see `sources.Source`.

    An image is turned upright by its EXIF orientation and resized as a whole, whatever its
    proportions. One that can't be decoded is set aside. The arrays are memory-mapped in `scratch`,
    so that they needn't fit into memory.

    Raises:
        InputError: if `image_size` is None, or an image is no longer what the manifest says.
    """
    if image_size is None:
        raise InputError("params.yaml: data.image_size: image_folder needs one, such as 224")
    manifest = _read_manifest(raw / MANIFEST)
    classes = tuple(dict.fromkeys(listed.class_name for listed in manifest))
    shape = (len(manifest), image_size, image_size, 3)
    images: np.ndarray = np.lib.format.open_memmap(
        scratch / "decoded.npy", mode="w+", dtype=np.uint8, shape=shape
    )

    def decode_into_place(position: int) -> str | None:
        content = _read_unchanged(local, manifest[position])
        decoded = _decode(content, image_size)
        if isinstance(decoded, str):
            return decoded
        images[position] = decoded
        return None

    reasons = list(
        track(
            _in_parallel(decode_into_place, range(len(manifest))),
            "decoding images",
            total=len(manifest),
        )
    )
    kept = np.array([position for position, reason in enumerate(reasons) if reason is None], int)
    if len(kept) < len(manifest):
        images = _close_ranks(images, kept)
    return Collection(
        images=images,
        labels=np.array([classes.index(manifest[row].class_name) for row in kept], np.int64),
        classes=classes,
        ids=kept,
        origins=[manifest[row].path for row in kept],
        rejected=tuple(
            Rejected(listed.path, reason)
            for listed, reason in zip(manifest, reasons, strict=True)
            if reason is not None
        ),
    )


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    where = "params.yaml: data.path"
    layout = "it needs one sub-folder of images per class"
    if not folder.is_dir():
        raise InputError(
            f"{where}: '{folder}' does not exist; make a folder with one sub-folder of images per "
            "class, or change data.path"
        )
    subfolders = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    files = {path.name: _visible_files(path) for path in subfolders}
    if not any(files.values()):
        raise InputError(f"{where}: '{folder}' has no sub-folder with images: {layout}")
    without = [name for name, paths in files.items() if not paths]
    if without:
        raise InputError(
            f"{where}: '{folder}': no images for class '{without[0]}'; add some or remove the "
            "sub-folder"
        )
    if len(files) == 1:
        raise InputError(
            f"{where}: '{folder}' has one class only, '{next(iter(files))}'; {layout}, and at "
            "least two classes"
        )
    return files


def _visible_files(folder: Path) -> list[Path]:
    """Return the files anywhere under a class's folder, hidden ones and READMEs left out."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.stem.upper() != "README"
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _read_manifest(path: Path) -> list[Listed]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Listed(row["path"], int(row["bytes"]), row["sha256"], row["class"])
            for row in csv.DictReader(file)
        ]


def _read_unchanged(folder: Path, listed: Listed) -> bytes:
    path = folder / PurePosixPath(listed.path)
    again = "run the download stage again (python -m pipeline download)"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: is gone since it was listed; {again}") from None
    if hashlib.sha256(content).hexdigest() != listed.sha256:
        raise InputError(f"{path}: has changed since it was listed; {again}")
    return content


def _decode(content: bytes, image_size: int) -> np.ndarray | str:
    """Return uint8 (image_size, image_size, 3), or the reason why the bytes give no image."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            upright = _eight_bit(ImageOps.exif_transpose(picture)).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        kind = type(error).__name__
        return (
            "not an image that can be read"
            if kind == "UnidentifiedImageError"
            else (f"{kind}: {error}".replace("\n", " "))
        )
    resized = upright.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Bring 16-bit grey down to 8 bits; Pillow's own conversion would clip it to white.

    Raises:
        ValueError: if its values have no known range, as 32-bit integers and floats.
    """
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {picture.mode} have no known range; save it as 8 or 16 bit"
        )
    return picture


def _close_ranks(images: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Move the kept images to the front, in place, and return the view of them."""
    for target, source in enumerate(kept):
        if target != source:
            images[target] = images[source]
    return images[: len(kept)]


def _in_parallel(
    function: Callable[[Argument], Result], arguments: Iterable[Argument]
) -> Iterator[Result]:
    """Yield `function` of each argument, in order; an error stops what has not begun."""
    executor = ThreadPoolExecutor(max_workers=cores())
    try:
        yield from executor.map(function, arguments)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
