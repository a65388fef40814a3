"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes `folder` when the block ends without an error.

    It lies beside `folder`, hence on the same file system, so that a rename puts it in place. What
    `folder` held before is replaced. After an error nothing is left of it, and `folder` is as it
    was.

    Args:
        folder: the folder to make.

    Yields:
        The folder to write to.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}-{uuid4().hex[:12]}"
    staging.mkdir()
    try:
        yield staging
        if folder.exists():
            replaced = staging.with_name(f"{staging.name}-replaced")
            folder.replace(replaced)
            staging.replace(folder)
            shutil.rmtree(replaced)
        else:
            staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
