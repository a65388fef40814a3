"""The folder of a person's own files, `data.path`, as the engines need it before any stage runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.settings.schema import Settings
from pipeline.system.errors import InputError
from pipeline.system.text import printable

MOST_NAMED = 3


def check(settings: Settings, root: Path, outputs: tuple[Path, ...]) -> None:
    """Check that `data.path` is a folder, none that the pipeline writes, and that DVC can read it.

    DVC takes the checksum of everything in it before a stage starts. At what it can't read it stops
    with an error that doesn't say what to do, and at a pipe it waits for ever.

    Args:
        settings: all of params.yaml.
        root: the folder that `data.path` is relative to.
        outputs: the folders that stages write.

    Raises:
        InputError: if it isn't there, overlaps with an output, or holds what DVC can't read.
    """
    path = root / settings.data.path
    where = f"params.yaml: data.path: '{settings.data.path}'"
    if not os.path.isdir(path):  # noqa: PTH112 - a name too long is no folder, and no error
        raise InputError(
            f"{where} does not exist; make it, with a sub-folder for each class, or change it"
        )
    for output in outputs:
        one, other = path.resolve(), (root / output).resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise InputError(f"{where}: the pipeline writes {output} itself; take another folder")
    unreadable = [
        f"'{printable(str(file.relative_to(path)))}' {obstacle}"
        for parent, folders, files in os.walk(path, onerror=_refuse)
        for file in (Path(parent, name) for name in sorted([*folders, *files]))
        if (obstacle := _obstacle(file))
    ]
    if unreadable:
        more = len(unreadable) - MOST_NAMED
        named = "; ".join(unreadable[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(f"{where}: DVC can't read all of it: {named}; remove or fix them")


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: can't be read: {error.strerror}; see to its permissions")


def _obstacle(path: Path) -> str | None:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "has a name that isn't UTF-8"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to nothing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "is no file (a pipe, socket or device)"
    return None if os.access(path, os.R_OK) else "may not be read (permissions)"
