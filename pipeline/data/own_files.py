"""A person's own files while a stage reads them: none may come, go or change.

DVC takes their checksums when the stage has ended, and records them as those of what was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.sources.registry import Source
from pipeline.settings.schema import Data
from pipeline.system.errors import StageError
from pipeline.system.text import printable


@contextlib.contextmanager
def unchanged(source: Source, data: Data) -> Iterator[list[Path]]:
    """Fail if, while the block runs, a file comes, goes or changes that `source` reads.

    Yields:
        Those files; none where the source knows the checksums of what it reads.

    Raises:
        InputError: as `source.own_files`.
        StageError: if one did; the message names the first.
    """
    own_files, folder = source.own_files or (lambda data: []), Path(data.path)
    files = own_files(data)
    before = _states(files, folder)
    yield files
    after = _states(own_files(data), folder)
    for path in {**before, **after}:
        if path not in before or path not in after or before[path] != after[path]:
            what = "is gone" if path not in after else "has changed" if path in before else "is new"
            raise StageError(
                f"{printable(str(path))}: {what} since this stage began to read the images; run "
                "again when they stay as they are"
            )


def _states(files: list[Path], folder: Path) -> dict[Path, object]:
    """Return what changes with each file, and where each folder on the way to one is or leads.

    An inode is none of it: where a disk is mounted over a network it may change by itself, and on
    others the ctime changes with it.
    """
    states: dict[Path, object] = {}
    for path in files:
        try:
            status = path.stat()
            states[path] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except OSError as error:  # a link to nothing, or a folder that may not be looked into
            states[path] = error.errno
    parents = {path.parent for path in files}
    for path in {above for parent in parents for above in (parent, *parent.parents)}:
        if path.is_relative_to(folder):
            states[path] = path.readlink() if path.is_symlink() else None
    return states
