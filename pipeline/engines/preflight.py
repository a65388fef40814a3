"""The folder of a person's own files, `data.path`, as the engines need it before any stage runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.left_out import is_left_out
from pipeline.paths import EVALUATED, EXPLAINED, REPORTS, TRAINED
from pipeline.settings.schema import Settings
from pipeline.system.errors import InputError
from pipeline.system.text import printable

MOST_NAMED = 3

# folders of the project that are not for images; nor are its hidden ones
NOT_FOR_IMAGES = {
    *("benchmarks", "captions", "docs", "pipeline", "presets", "profiles", "tests"),
    *("dvc_plots", "exports", "logs", "predictions"),
}

HOLD_OUTPUTS = (TRAINED, EVALUATED, REPORTS, EXPLAINED.parent, EXPLAINED)

# why DVC leaves files out, and the cure
LINK = "a link to a folder"
PROJECT = "a DVC project of its own"
IGNORED = "ignored by DVC"
CURES = {
    LINK: (
        "put the folder itself there (cp -rL copies it, cp -rlL makes hard links, which take no "
        "room)"
    ),
    PROJECT: "remove the .dvc in it",
    IGNORED: "take its line out of the .dvcignore, or it out of .git, .hg or .dvc",
}


def check(settings: Settings, root: Path, outputs: tuple[Path, ...]) -> None:
    """Check that `data.path` is a folder for images that DVC can read, and that it takes `outputs`.

    DVC takes the checksum of everything in `data.path` before a stage starts. At what it can't read
    it stops with an error that doesn't say what to do, and at a pipe it waits for ever. Images that
    it leaves out would change unnoticed.

    Args:
        settings: all of params.yaml.
        root: the folder that `data.path` is relative to.
        outputs: the folders that stages write.

    Raises:
        InputError: if it isn't there, overlaps with an output or is the project's own, or holds
            what DVC can't read or images that it leaves out, or an output lies below a link.
    """
    path = root / settings.data.path
    where = f"params.yaml: data.path: '{settings.data.path}'"
    if not os.path.isdir(path):  # noqa: PTH112 - a name too long is no folder, and no error
        raise InputError(
            f"{where} does not exist; make it, with a sub-folder for each class, or change it"
        )
    _refuse_links({*HOLD_OUTPUTS, *(above for output in outputs for above in output.parents)}, root)
    real, real_root = path.resolve(), root.resolve()
    for output in outputs:
        other = (root / output).resolve()
        if real.is_relative_to(other) or other.is_relative_to(real):
            raise InputError(f"{where}: the pipeline writes {output} itself; take another folder")
    if real.is_relative_to(real_root):
        first = (*real.relative_to(real_root).parts, ".")[0]
        if first.startswith(".") or first in NOT_FOR_IMAGES:
            raise InputError(
                f"{where}: {first} is not for images; take another folder, such as data/local"
            )
    unreadable, unseen = _look_through(path, root)
    if unreadable:
        raise InputError(
            f"{where}: DVC can't read all of it: {_first(unreadable)}; remove or fix them"
        )
    if settings.data.name == "image_folder":
        refuse_unseen(unseen, path)


def refuse_unseen(unseen: Mapping[str, str], folder: Path) -> None:
    """Raise an `InputError` if DVC doesn't see all that is in `folder`, that of `data.path`.

    `unseen` are the places that it leaves out, and why.
    """
    # Python goes up from where a link leads, DVC from where it is
    if folder.resolve() != Path(os.path.normpath(folder)).resolve():
        raise InputError(
            f"params.yaml: data.path: '{folder}' goes up from behind a link, where DVC looks "
            f"elsewhere; write '{folder.resolve()}'"
        )
    if not unseen:
        return
    named = [f"'{printable(place)}' is {why}" for place, why in unseen.items()]
    cures = "; ".join(CURES[why] for why in dict.fromkeys(unseen.values()))
    raise InputError(
        f"params.yaml: data.path: '{folder}': DVC would not see images change: {_first(named)}; "
        f"{cures}"
    )


def _look_through(path: Path, root: Path) -> tuple[list[str], dict[str, str]]:
    """Return what DVC can't read in a folder, and by place what it leaves out of it, and why."""
    unreadable, unseen = [], {}
    outside = Path(os.path.relpath(path, root)).parts[:1] == (os.pardir,)  # links not resolved

    def left_out(place: str | Path) -> bool:
        return any(map(is_left_out, Path(place).relative_to(path).parts))

    def refuse(error: OSError) -> None:
        if not left_out(error.filename):  # else neither DVC nor the listing goes into it
            raise InputError(
                f"{error.filename}: can't be read: {error.strerror}; see to its permissions"
            )

    for parent, folders, files in os.walk(path, onerror=refuse):
        for place in (Path(parent, name) for name in sorted([*folders, *files])):
            if obstacle := _obstacle(place):
                unreadable.append(f"'{printable(str(place.relative_to(path)))}' {obstacle}")
        for place in (Path(parent, name) for name in sorted(folders)):
            if place.is_symlink() and not left_out(place):
                unseen[str(place)] = LINK
            elif place.name == ".dvc" and not (outside or parent == str(path) or left_out(parent)):
                unseen[parent] = PROJECT
    return unreadable, unseen


def _refuse_links(folders: set[Path], root: Path) -> None:
    """Raise an `InputError` if a folder in which outputs lie is a link; an output itself may be."""
    for folder in sorted(folders):
        if (root / folder).is_symlink():
            raise InputError(
                f"{folder}: is a link, and DVC takes no outputs behind one; make it a folder. To "
                "use a large disk, mount it there (mount --bind), or have DVC's cache on it (dvc "
                "cache dir)"
            )


def _first(found: Sequence[str]) -> str:
    more = len(found) - MOST_NAMED
    return "; ".join(found[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _obstacle(path: Path) -> str | None:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "has a name that isn't UTF-8"
    if path.name == ".dvcignore":
        return "is refused by DVC in a folder whose checksum it takes"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to nothing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return None  # it is looked into
    if not stat.S_ISREG(mode):
        return "is no file (a pipe, socket or device)"
    return None if os.access(path, os.R_OK) else "may not be read (permissions)"
