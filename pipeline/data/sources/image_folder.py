"""`image_folder`: one's own images, in sub-folders or with a table of labels.

The images stay where they are. `fetch` lists them with their checksums, `read` decodes them.
"""

from __future__ import annotations

import csv
import filecmp
import hashlib
import itertools
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from pipeline.data.collection import Collection, Rejected
from pipeline.data.sources.decoding import UndecodableError, decode
from pipeline.data.sources.labels import unused_columns
from pipeline.data.sources.listing import (
    EMPTY,
    NO_CLASS,
    Listed,
    examine,
    find,
    listed_path,
    why_unreadable,
)
from pipeline.settings.schema import Data
from pipeline.storage.csv_files import write_rows
from pipeline.storage.npy import new_images
from pipeline.system.errors import InputError
from pipeline.system.machine import cores
from pipeline.system.progress import say, track
from pipeline.system.text import printable

MANIFEST = "manifest.csv"
# the fields of `Listed`
COLUMNS = ("path", "bytes", "sha256", "class", "split", "group", "unusable")
LABELS = "labels.csv"  # the table of labels as it was read
WAITING = 256  # pieces of work handed to the threads at once: a million would fill the memory

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def own_files(data: Data) -> list[Path]:
    """Return the files under `data.path`, images or not; see `sources.registry.Source`.

    Raises as `listing.find`.
    """
    local = Path(data.path)
    table = [] if data.labels is None else [local / data.labels]
    return [*(found.path for found in find(local, data.labels)), *table]


def fetch(raw: Path, data: Data, downloads: Path) -> str:
    """List the files under `data.path` with their checksums in ``manifest.csv``.

    A file that can't be read is listed too, with the reason. A table of labels is copied. Raises as
    `listing.find`.
    """
    local = Path(data.path)
    found = find(local, data.labels)
    if data.labels is not None:
        shutil.copyfile(local / data.labels, raw / LABELS)
        if unused := unused_columns(raw / LABELS):
            say(f"{data.labels}: columns that are not used: {', '.join(map(printable, unused))}")
    listed = track(_in_parallel(partial(examine, local), found), "listing images", total=len(found))
    write_rows(raw / MANIFEST, COLUMNS, map(astuple, listed))
    return str(local)


def read(raw: Path, data: Data, scratch: Path) -> Collection:
    """Decode the listed images to RGB of `data.image_size` squared; see `sources.registry.Source`.

    Each file is decoded completely, and once. One that can't be used is rejected with the reason.
    The arrays are memory-mapped in `scratch`, so that they needn't fit into memory.

    Raises:
        InputError: if `data.image_size` is None, or the files are no longer those of the manifest:
            DVC takes checksums of what is there now, and would record them for what was listed.
    """
    local, image_size = Path(data.path), data.image_size
    if image_size is None:
        raise InputError("params.yaml: data.image_size: image_folder needs one, such as 224")
    again = "list the images again (dvc repro --force download)"
    if data.labels is not None and not _same(local / data.labels, raw / LABELS):
        raise InputError(
            f"{local / data.labels}: is not the table by which the images were listed; {again}"
        )
    with (raw / MANIFEST).open(encoding="utf-8", newline="") as file:
        manifest = [
            Listed(path, int(size), *others)
            for path, size, *others in itertools.islice(csv.reader(file), 1, None)
        ]
    known = {listed.path for listed in manifest}
    present = {listed_path(local, found.path) for found in find(local, data.labels)}
    if differing := sorted(known ^ present):
        what = "is new" if differing[0] in present else "is gone"
        raise InputError(f"{local / differing[0]}: {what} since the images were listed; {again}")
    decoded = scratch / "decoded.npy"
    images = new_images(decoded, (len(manifest), image_size, image_size, 3))

    def decode_into_place(position: int) -> str:
        """Return why the file can't be used, empty if it could."""
        listed = manifest[position]
        if listed.unusable not in ("", EMPTY):
            return listed.unusable
        path = local / PurePosixPath(listed.path)
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != listed.sha256:
                    # DVC takes a file of the same size and time for the one that it knows, and
                    # would note the old checksum for the new list
                    raise InputError(
                        f"{path}: has changed since it was listed; touch all images (find "
                        f"'{local}' -exec touch {{}} +), then {again}"
                    )
                if listed.unusable:
                    return listed.unusable
                file.seek(0)
                images[position] = decode(file, image_size)
        except UndecodableError as reason:
            return str(reason)
        except FileNotFoundError:
            raise InputError(f"{path}: is gone since it was listed; {again}") from None
        except OSError as error:
            return why_unreadable(path, error)
        return ""

    with warnings.catch_warnings():
        # Pillow's are about the inside of a file that can be decoded, and don't name it.
        warnings.simplefilter("ignore")
        work = _in_parallel(decode_into_place, range(len(manifest)))
        reasons = list(track(work, "decoding images", total=len(manifest)))
    kept = np.array([position for position, reason in enumerate(reasons) if not reason], np.int64)
    for target, source in enumerate(kept):  # to the front, in place
        if target != source:
            images[target] = images[source]
    classes = dict.fromkeys(file.class_name for file in manifest if file.class_name != NO_CLASS)
    labels = {name: label for label, name in enumerate(classes)}
    return Collection(
        images=images[: len(kept)],
        labels=np.array([labels[manifest[row].class_name] for row in kept], np.int64),
        classes=tuple(classes),
        ids=kept,
        origins=[manifest[row].path for row in kept],
        photographs=True,
        official=_column([manifest[row].split for row in kept]),
        groups=_column([manifest[row].group for row in kept]),
        rejected=tuple(
            Rejected(file.path, reason, file.class_name, file.split)
            for file, reason in zip(manifest, reasons, strict=True)
            if reason
        ),
        file=decoded if len(kept) == len(manifest) else None,
    )


def _column(values: list[str]) -> np.ndarray | None:
    """Return what was listed of each image, str (N,), or None where nothing was."""
    return np.array(values) if any(values) else None


def _same(one: Path, other: Path) -> bool:
    """Return whether two files are there and hold the same."""
    return all(path.is_file() for path in (one, other)) and filecmp.cmp(one, other, shallow=False)


def _in_parallel(
    function: Callable[[Argument], Result], arguments: Iterable[Argument]
) -> Iterator[Result]:
    """Yield `function` of each argument, in order; an error stops what has not begun."""
    remaining = iter(arguments)
    executor = ThreadPoolExecutor(max_workers=cores())
    try:
        while batch := list(itertools.islice(remaining, WAITING)):
            yield from executor.map(function, batch)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
