"""What lies in a folder of images: of which class, split and group each file is.

The classes are sub-folders, or sub-folders of the splits', or stand in a table (`data.labels`).
Links are followed, nothing is opened twice. Left out are READMEs and what `left_out` names: hidden
files and folders, and what systems make.
"""

from __future__ import annotations

import contextlib
import errno
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from pipeline.data.left_out import is_left_out
from pipeline.data.sources import layout
from pipeline.data.sources.labels import Label, read_labels
from pipeline.storage.checksums import checksum
from pipeline.system.errors import InputError
from pipeline.system.text import plural, printable

NO_CLASS = ""
EMPTY = "empty: 0 bytes"
LOOSE = "lies in no class: move it into a sub-folder"
LAYOUT = "it needs one sub-folder of images per class, or a table of labels (data.labels)"
COPIES = "/.dvc/tmp/exps/"  # where DVC runs experiments with --temp or --queue
NOT_COPIED = (
    "this is a copy of the project for an experiment, and DVC copies nothing that git ignores; "
    "name each class's folder with --copy-paths, or have data.path be absolute "
    "(docs/experiments.md)"
)

# characters without ink that Unicode counts among letters, marks and symbols
WITHOUT_INK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class Found:
    """Something in the folder that is no folder to go into."""

    path: Path  # where it lies
    class_name: str  # the sub-folder that it lies in, or what its row says, or `NO_CLASS`
    split: str = ""  # train, validation or test where the set is split already
    group: str = ""  # what its row says, or empty
    why_no_class: str = LOOSE


@dataclass(frozen=True)
class Listed:
    """A file as it was when it was listed."""

    path: str  # under the images' folder, with ``/``; a printable rendering where it isn't UTF-8
    size: int  # in bytes; 0 where it can't be read
    sha256: str  # in hexadecimal; empty where it can't be read
    class_name: str  # its class, or `NO_CLASS`
    split: str  # as in `Found`
    group: str  # as in `Found`
    unusable: str  # why it can't be an image of a class, empty if it may be one


def find(folder: Path, labels: str | None = None) -> list[Found]:
    """Find what lies under `folder`, split by split and class by class, then what lies in no class.

    Links to folders are followed, except back to a folder that they lie in themselves.

    Args:
        folder: `data.path`.
        labels: the name of the table within it that says of which class each image is, or None:
            then the sub-folders are the classes, or splits with the classes below.

    Raises:
        InputError: if the folder is missing, can't be read, or has fewer than two classes, or a
            class can't be read, has nothing in it, or has a name that isn't UTF-8 or that a person
            reads as that of another; if it is not clear what are splits and what classes; as
            `read_labels`, and if a file of the table isn't there.
    """
    where = f"params.yaml: data.path: '{folder}'"
    if not folder.is_dir():
        raise InputError(
            f"{where} does not exist; make a folder with one sub-folder of images per class, or "
            "change data.path"
        )
    with _readable(folder, where):
        visible = sorted(_visible(folder))
        root = frozenset({_identity(folder)})
    if labels is not None:
        return _find_labelled(folder, labels, where)
    folders = [path for path in visible if is_folder(path)]
    for path in folders:
        _check_name(path, where)
    splits = layout.split_folders([path.name for path in folders], where)
    if not splits:
        return _find_classes(folder, visible, where, root, "")
    found, classes = [], {}
    for path in folders:
        with _readable(path, where):
            inside = sorted(_visible(path))
            above = root | {_identity(path)}
        if not any(map(is_folder, inside)):
            raise layout.no_classes(path.name, where, bool(inside))
        in_split = _find_classes(path, inside, where, above, splits[path.name])
        classes[path.name] = {each.class_name for each in in_split} - {NO_CLASS}
        found += in_split
    _refuse_names_read_as_one(sorted(set().union(*classes.values())), where)
    layout.refuse_other_classes(classes, where)
    loose = [Found(path, NO_CLASS) for path in visible if path.name not in splits]
    return [*found, *loose]


def _find_classes(
    holder: Path, visible: list[Path], where: str, above: frozenset[tuple[int, int]], split: str
) -> list[Found]:
    """Find what lies in the folder that holds the classes; `visible` is what isn't left out of it.

    The other arguments are those of `files_under`, and the split that `holder` is.
    """
    by_class: dict[str, list[Found]] = {}
    for path in filter(is_folder, visible):
        name = path.name
        _check_name(path, where)
        by_class[name] = [Found(file, name, split) for file in files_under(path, where, above)]
    _refuse_names_read_as_one(by_class, where)
    if not any(by_class.values()):
        is_copy = COPIES in f"{Path.cwd().as_posix()}/"
        raise InputError(
            f"{where} has no sub-folder with images: {NOT_COPIED if is_copy else LAYOUT}"
        )
    for name, found in by_class.items():
        if not found:
            place = f" in '{printable(holder.name)}'" if split else ""
            raise InputError(
                f"{where}: no images for class '{printable(name)}'{place}; add some or remove the "
                "sub-folder"
            )
    inside = {
        name: {parts[0] for each in found if len(parts := _within(each, holder / name)) > 1}
        for name, found in by_class.items()
    }
    if len(by_class) == 1:
        deeper = f"; if the classes are in it, write {holder / name}" if inside[name] else ""
        raise InputError(
            f"{where} has one class only, '{printable(name)}'; {LAYOUT}, and at least two classes"
            f"{deeper}"
        )
    layout.refuse_splits_in_classes(inside, where)
    loose = [Found(path, NO_CLASS, split) for path in visible if path.name not in by_class]
    return [*chain.from_iterable(by_class.values()), *loose]


def _find_labelled(folder: Path, labels: str, where: str) -> list[Found]:
    """Find the files that the table `labels` names, and those that it doesn't; see `find`."""
    table = f"params.yaml: data.labels: '{labels}'"
    rows = read_labels(folder / labels, folder, table)
    files = {PurePosixPath(each.relative_to(folder)): each for each in files_under(folder, where)}
    files.pop(PurePosixPath(labels), None)
    # a table may come from a system that composes the characters of names in another way
    composed = {unicodedata.normalize("NFC", str(file)): file for file in files}
    by_file: dict[PurePosixPath, Label] = {}
    missing = []
    for file, label in rows.items():
        present = file if file in files else composed.get(unicodedata.normalize("NFC", str(file)))
        if present is None:
            missing.append((file, label.line))
        else:
            by_file[present] = label
    if missing:
        first, line = missing[0]
        raise InputError(
            f"{table}: {plural(len(missing), 'file')} of it can't be found in {folder}, the first "
            f"'{printable(str(first))}' (line {line}); write the paths as they are within that "
            "folder, or remove the rows (hidden files and READMEs are left out)"
        )
    classes = sorted({label.class_name for label in by_file.values()})
    _refuse_names_read_as_one(classes, table)
    if len(classes) == 1:
        raise InputError(f"{table}: has one class only, '{classes[0]}'; it needs at least two")
    by_split: dict[str, set[str]] = {}
    for label in by_file.values():
        by_split.setdefault(label.split, set()).add(label.class_name)
    layout.refuse_other_classes(by_split, table)
    order = sorted(by_file, key=lambda file: (by_file[file].class_name, file.as_posix()))
    found = [
        Found(files[file], label.class_name, label.split, label.group)
        for file, label in ((file, by_file[file]) for file in order)
    ]
    others = [
        Found(path, NO_CLASS, why_no_class=f"not in {labels}: write a row for it if it is an image")
        for file, path in files.items()
        if file not in by_file
    ]
    return [*found, *others]


def _within(found: Found, folder: Path) -> tuple[str, ...]:
    return found.path.relative_to(folder).parts


def _check_name(folder: Path, where: str) -> None:
    """Raise an `InputError` if the name of a sub-folder isn't UTF-8."""
    if not is_utf8(folder.name):
        raise InputError(
            f"{where}: the sub-folder '{printable(folder.name)}' has a name that isn't UTF-8; "
            "rename it"
        )


def files_under(
    folder: Path, where: str, above: frozenset[tuple[int, int]] = frozenset()
) -> list[Path]:
    """Return what lies anywhere under a folder and is none itself, by path.

    Args:
        folder: to look through.
        where: the setting that names it, for the error if a folder can't be read.
        above: device and inode of folders that links are not followed back to.
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
    """Read a file for its size and checksum, or say why it can't be used; it is not decoded."""
    relative = found.path.relative_to(folder).as_posix()
    size, sha256, unusable = 0, "", ""
    try:
        status = found.path.stat()
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFREG:  # a pipe would be waited for without end
            raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'something else')}, not a file")
        sha256 = checksum(found.path)
        size = status.st_size
        if not is_utf8(relative):
            unusable = "its name isn't UTF-8; rename it"
        elif found.class_name == NO_CLASS:
            unusable = found.why_no_class
        elif not size:
            unusable = EMPTY
    except OSError as error:
        unusable = why_unreadable(found.path, error)
    path = listed_path(folder, found.path)
    return Listed(path, size, sha256, found.class_name, found.split, found.group, unusable)


def listed_path(folder: Path, path: Path) -> str:
    """Return how a file of the images' folder is named in the list; see `Listed`."""
    relative = path.relative_to(folder).as_posix()
    return relative if is_utf8(relative) else printable(relative)


def why_unreadable(path: Path, error: OSError) -> str:
    """Return in a few words why a file could not be read."""
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"a link to what does not exist ({printable(str(path.readlink()))})"
    return f"can't be read: {error.strerror or error}"


def _visible(folder: Path) -> Iterator[Path]:
    """Yield what isn't left out, and no file that describes its folder."""
    for path in folder.iterdir():
        if not is_left_out(path.name) and (path.stem.upper() != "README" or is_folder(path)):
            yield path


def _refuse_names_read_as_one(names: Iterable[str], where: str) -> None:
    """Raise an `InputError` with two names of classes that look the same but for their case."""
    by_looks: dict[str, str] = {}
    for name in names:
        other = by_looks.setdefault(_looks(name), name)
        if other != name:
            raise InputError(
                f"{where}: '{_spelt(other)}' and '{_spelt(name)}' would be two classes that a "
                "person reads as one; put the images into one of them, or rename one"
            )


def _looks(name: str) -> str:
    """Return what is the same for names that a person reads as one."""
    composed = unicodedata.normalize("NFC", name)
    spaced = (" " if character.isspace() else character for character in composed)
    seen = "".join(each for each in spaced if unicodedata.category(each) not in ("Cc", "Cf"))
    return unicodedata.normalize("NFC", " ".join(WITHOUT_INK.sub("", seen).lower().split()))


def _spelt(name: str) -> str:
    """Return a name in print, so that one sees in what it differs from one that looks the same."""
    if not unicodedata.is_normalized("NFC", name):
        return name.encode("unicode_escape").decode()
    return WITHOUT_INK.sub(lambda found: ascii(found[0])[1:-1], printable(name))


@contextlib.contextmanager
def _readable(folder: Path, where: str) -> Iterator[None]:
    """Name the folder in the error if it can't be read."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{where}: the folder '{printable(str(folder))}' can't be read "
            f"({error.strerror}); change its permissions, or remove it"
        ) from None


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; what can't be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """Return device and inode, the same by whatever links a folder is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_utf8(name: str) -> bool:
    """Return whether the name of a file can be written as UTF-8."""
    return name.encode("utf-8", "ignore").decode("utf-8") == name
