"""Files as DVC sees them and the checksums that it notes in dvc.lock: it takes a second to import.

Written against DVC 3.67. What no manual promises, with a test in tests/pipeline/test_record.py: the
md5 of a folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines.dvc_graph import ROOT
from pipeline.storage.checksums import checksum
from pipeline.system.errors import InputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

SECONDS_TO_WRITE = 60.0  # many times what dvc.lock takes, which DVC writes in place
SECONDS_BETWEEN_READS = 0.5


def md5(path: Path) -> str:
    """Return DVC's md5 of a file, or of a folder: that of the list of its files as JSON."""
    if not path.is_dir():
        return checksum(path, "md5")
    return md5_of_folder(
        {file.relative_to(path).as_posix(): checksum(file, "md5") for file in files([path])}
    )


def md5_of_folder(listed: Mapping[str, str]) -> str:
    """Return DVC's md5 of a folder from those of its files by their relative paths."""
    entries = [{"md5": listed[relative], "relpath": relative} for relative in sorted(listed)]
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files that are meant, and all under the folders but what .dvcignore names.

    Raises:
        InputError: if it names a Python source, or a folder is a link or a DVC project of its own:
            DVC would not see them change.
    """
    ignored = _ignored()
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            for inner in (Path(folder, name) for name in folders):
                if inner.is_symlink() or (inner / ".dvc").is_dir():
                    what = "a link" if inner.is_symlink() else "a DVC project of its own"
                    raise InputError(
                        f"{os.path.relpath(inner)}: is {what}: DVC would not see what is in it "
                        "change; put the folder itself there, without a .dvc in it"
                    )
            below = os.path.relpath(folder, ROOT)
            for name in names:
                if not ignored.match_file(f"{below}/{name}"):
                    yield Path(folder, name)
                elif name.endswith(".py"):
                    raise InputError(
                        f".dvcignore leaves out {below}/{name}: DVC would not see it change; move "
                        "the file, or take the line out"
                    )


@functools.cache
def _ignored() -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # `--help` can do without

    return GitIgnoreSpec.from_lines((ROOT / ".dvcignore").read_text("utf-8").splitlines())
