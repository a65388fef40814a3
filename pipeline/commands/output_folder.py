"""Where a command may write, checked before the work."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.data.sources.listing import is_folder
from pipeline.system.errors import InputError
from pipeline.system.text import printable


def check_folder(folder: Path) -> None:
    """Check that a folder is there, or can be made as far as what is above it allows.

    Raises:
        InputError: if it, or what it would lie in, is there and is no folder.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not is_folder(there):
        raise InputError(f"--out: '{printable(str(there))}' is not a folder; choose another")
