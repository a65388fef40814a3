"""Folders of output that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; at the end it takes the place of `folder`.

    It lies beside `folder`, on the same file system, as ``.incomplete-NAME`` (which .dvcignore
    names). If the block raises it is removed, and `folder` is as before; what a killed run left of
    it is removed by the next.
    """
    staging = folder.parent / f".incomplete-{folder.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        if folder.exists():
            replaced = folder.parent / f".incomplete-{folder.name}-replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            folder.replace(replaced)
            staging.replace(folder)
            shutil.rmtree(replaced)
        else:
            staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
