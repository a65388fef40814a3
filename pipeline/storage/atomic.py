"""Folders and files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.system.errors import InputError
from pipeline.system.progress import say


@contextlib.contextmanager
def atomic_folder(folder: Path, known_by: str) -> Iterator[Path]:
    """Yield an empty folder to write into; at the end it takes the place of `folder`.

    It lies beside `folder`, on the same file system, as ``.incomplete-NAME`` (which .dvcignore
    names). If the block raises it is removed, and `folder` is as before; what a killed run left is
    removed by the next. A second process that writes the same folder waits for the first.

    Raises:
        InputError: if `folder` can't be made, or holds something else: a folder without the file
            `known_by` is not replaced.
    """
    given, folder = folder, folder.resolve()
    staging = folder.parent / f".incomplete-{folder.name}"
    replaced = folder.parent / f".incomplete-{folder.name}-replaced"
    try:
        _check_replaceable(given, known_by)
        lock = _lock(staging, given)
    except OSError as error:
        raise InputError(
            f"{given}: can't be made: {error.strerror}; fix that, or choose another"
        ) from None
    try:
        for path in staging.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        elif replaced.exists():
            replaced.replace(folder)  # a kill came between the two renames below
        yield staging
        if folder.exists():
            folder.replace(replaced)
            staging.replace(folder)
            shutil.rmtree(replaced)
        else:
            staging.replace(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        os.close(lock)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; at the end, unless the block raises, that file replaces `path`."""
    staging = path.with_name(f".incomplete-{path.name}")
    try:
        yield staging
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, atomically."""
    with atomic_file(path) as staging:
        staging.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as UTF-8, atomically, with two spaces of indentation and a last newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _lock(staging: Path, given: Path) -> int:
    """Make the folder, wait until no other process holds it, and hold it.

    It is held until the returned file descriptor is closed, as a kill does.
    """
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:  # the other process put it into its place
            continue
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{given}: another process is writing it; waiting until it has finished")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # as above
            if os.path.samestat(os.fstat(descriptor), staging.stat()):
                return descriptor
        os.close(descriptor)


def _check_replaceable(folder: Path, known_by: str) -> None:
    if not folder.exists() or (folder / known_by).exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; choose another")
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if others:
        raise InputError(
            f"{folder}: holds what this stage didn't write ({', '.join(others[:3])}) and would "
            "lose it; choose another folder, or empty this one"
        )
