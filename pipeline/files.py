"""Folders of output that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError


@contextlib.contextmanager
def whole(folder: Path, known_by: str) -> Iterator[Path]:
    """Yield an empty folder to write into; at the end it takes the place of `folder`.

    It lies beside `folder`, on the same file system, as ``.incomplete-NAME`` (which .dvcignore
    names). If the block raises it is removed, and `folder` is as before; what a killed run left of
    it is removed by the next.

    Args:
        folder: the folder to make or to replace.
        known_by: a file that every such folder holds. A folder without it is somebody else's.

    Raises:
        InputError: if `folder` holds something else, or can't be made.
    """
    given, folder = folder, folder.resolve()
    staging = folder.parent / f".incomplete-{folder.name}"
    replaced = folder.parent / f".incomplete-{folder.name}-replaced"
    try:
        _refuse_others(given, known_by)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{given}: can't be made: {error.strerror}; choose another") from None
    try:
        yield staging
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.replace(replaced)
            staging.replace(folder)
            shutil.rmtree(replaced)
        else:
            staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refuse_others(folder: Path, known_by: str) -> None:
    if not folder.exists() or (folder / known_by).exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; choose another")
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if held:
        raise InputError(
            f"{folder}: holds what this stage didn't write ({', '.join(held[:3])}) and would lose "
            "it; choose another folder, or empty this one"
        )
