"""What lies in a folder of images: one sub-folder per class, links followed, nothing opened twice.

Left out are hidden files and folders, READMEs, and what Windows keeps hidden in a folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.system.errors import InputError
from pipeline.system.text import printable

HIDDEN_BY_WINDOWS = ("desktop.ini", "thumbs.db")
NO_CLASS = ""
LAYOUT = "it needs one sub-folder of images per class"

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class Found:
    """Something in the folder that is no folder to go into.

    Attributes:
        path: where it lies.
        class_name: the sub-folder of the images' folder that it lies in, or `NO_CLASS`.
    """

    path: Path
    class_name: str


@dataclass(frozen=True)
class Listed:
    """A file as it was when it was listed.

    Attributes:
        path: under the images' folder, with ``/``; a printable rendering where it isn't UTF-8.
        size: in bytes; 0 where it can't be read.
        sha256: in hexadecimal; empty where it can't be read.
        class_name: its class, or `NO_CLASS`.
        unusable: why it can't be an image of a class, empty if it may be one.
    """

    path: str
    size: int
    sha256: str
    class_name: str
    unusable: str


def find(folder: Path) -> list[Found]:
    """Find what lies under `folder`, class by class, then what lies in no class.

    Links to folders are followed, except back to a folder that they lie in themselves.

    Raises:
        InputError: if the folder is missing, can't be read, or has fewer than two classes, or a
            class can't be read, has nothing in it, or has a name that isn't UTF-8.
    """
    where = f"params.yaml: data.path: '{folder}'"
    if not folder.is_dir():
        raise InputError(
            f"{where} does not exist; make a folder with one sub-folder of images per class, or "
            "change data.path"
        )
    with _readable(folder, where):
        visible = sorted(_visible(folder))
    classes = {path.name: path for path in visible if is_folder(path)}
    by_class = {name: _under(folder, path, where) for name, path in classes.items()}
    if not any(by_class.values()):
        raise InputError(f"{where} has no sub-folder with images: {LAYOUT}")
    without = [name for name, found in by_class.items() if not found]
    if without:
        raise InputError(
            f"{where}: no images for class '{printable(without[0])}'; add some or remove the "
            "sub-folder"
        )
    if len(classes) == 1:
        name = printable(next(iter(classes)))
        raise InputError(
            f"{where} has one class only, '{name}'; {LAYOUT}, and at least two classes"
        )
    in_classes = [found for of_class in by_class.values() for found in of_class]
    return in_classes + [Found(path, NO_CLASS) for path in visible if path.name not in classes]


def files_under(
    folder: Path, where: str, above: frozenset[tuple[int, int]] = frozenset()
) -> list[Path]:
    """Return what lies anywhere under a folder and is none itself, by path.

    Args:
        folder: to look through.
        where: the setting that names it, for messages.
        above: device and inode of folders that links are not followed back to.

    Raises:
        InputError: if a folder can't be read.
    """
    found: list[Path] = []
    waiting = [(folder, above)]
    while waiting:
        current, holders = waiting.pop()
        with _readable(current, where):
            identity = _identity(current)
            contents = [] if identity in holders else list(_visible(current))
        for path in contents:
            if is_folder(path):
                waiting.append((path, holders | {identity}))
            else:
                found.append(path)
    return sorted(found, key=Path.as_posix)


def examine(folder: Path, found: Found) -> Listed:
    """Read a file for its size and checksum, or tell why it can't be used; it is not decoded."""
    relative = found.path.relative_to(folder).as_posix()
    try:
        size, sha256 = _measure(found.path)
        unusable = _obstacle(relative, size, found.class_name)
    except OSError as error:
        size, sha256, unusable = 0, "", why_unreadable(found.path, error)
    path = relative if is_utf8(relative) else printable(relative)
    return Listed(path, size, sha256, found.class_name, unusable)


def why_unreadable(path: Path, error: OSError) -> str:
    """Return in a few words why a file could not be read."""
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"a link to what does not exist ({printable(str(path.readlink()))})"
    return f"can't be read: {error.strerror or error}"


def _under(folder: Path, class_folder: Path, where: str) -> list[Found]:
    """Return what lies anywhere under a class's folder, by path."""
    name = class_folder.name
    if not is_utf8(name):
        raise InputError(
            f"{where}: the sub-folder '{printable(name)}' has a name that isn't UTF-8; rename it"
        )
    found = files_under(class_folder, where, frozenset({_identity(folder)}))
    return [Found(path, name) for path in found]


def _visible(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.name.startswith(".") and (not _is_about_folder(path) or is_folder(path)):
            yield path


def _is_about_folder(path: Path) -> bool:
    """Return whether a file is there to tell of its folder, not as one of the images."""
    return path.stem.upper() == "README" or path.name.lower() in HIDDEN_BY_WINDOWS


@contextlib.contextmanager
def _readable(folder: Path, where: str) -> Iterator[None]:
    """Say which folder can't be read where the block stumbles over it."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{where}: the folder '{printable(str(folder))}' can't be read "
            f"({error.strerror}); change its permissions, or take it away"
        ) from None


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; what can't be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from every other, by whatever links it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _measure(path: Path) -> tuple[int, str]:
    """Return size and sha256 of a file, however large.

    Raises:
        OSError: if it can't be read or is no file.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:  # a pipe would be waited for without end
        raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'something else')}, not a file")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), sha256


def _obstacle(relative: str, size: int, class_name: str) -> str:
    """Return why a file that can be read is nevertheless no image of a class, or nothing."""
    if not is_utf8(relative):
        return "its name isn't UTF-8; rename it"
    if class_name == NO_CLASS:
        return "lies in no class: move it into a sub-folder"
    return "" if size else "empty: 0 bytes"


def is_utf8(name: str) -> bool:
    """Return whether the name of a file can be written as UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
