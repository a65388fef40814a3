"""`data.labels`: a CSV that names the class of each image, and optionally its split and group."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

from pipeline.data.sources.layout import NAMES, split_of
from pipeline.system.errors import InputError, shown, suggestion

REQUIRED = ("file", "class")
OPTIONAL = ("split", "group")
MISSPELT = 0.8  # difflib's ratio from which on: 'groups' and 'gruop', but not 'group_id'
DELIMITERS = ",;\t"  # a spreadsheet writes the second where the comma is that of decimals


@dataclass(frozen=True)
class Label:
    """What a row says of an image."""

    class_name: str
    split: str  # train, validation or test; empty where the table has no such column
    group: str  # images of one group never lie in two splits; empty where there is no such column
    line: int  # where it stands in the file


def read_labels(path: Path, folder: Path, where: str) -> dict[PurePosixPath, Label]:
    """Read the labels of images, by their paths within the images' folder.

    The first line names the columns, in any order; others than ``file``, ``class``, ``split`` and
    ``group`` are not used (see `unused_columns`).

    Args:
        path: UTF-8, its cells separated by commas, semicolons or tabs.
        folder: that of the images, `data.path`.
        where: the setting that names it, for the errors.

    Raises:
        InputError: with the line, if it can't be read, lacks a column or a value, has more cells
            than columns, names a file twice or one outside of the folder, or lays images of a
            group into two splits.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"{where}: there is no such file in {folder}; write it with the columns "
            "file,class[,split][,group], or set data.labels to null"
        ) from None
    except OSError as error:
        raise InputError(f"{where}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not UTF-8; save it as CSV UTF-8") from None
    labels: dict[PurePosixPath, Label] = {}
    for line, row in _rows(text, where):
        file = PurePosixPath(row["file"])
        if file.is_absolute() or ".." in file.parts:
            raise InputError(
                f"{where}: line {line}: file {shown(row['file'])} is outside of {folder}; "
                "name files by their paths within it"
            )
        if file in labels:
            raise InputError(
                f"{where}: lines {labels[file].line} and {line} are both about {shown(str(file))}; "
                "leave one"
            )
        split = split_of(row["split"]) if "split" in row else ""
        if split is None:
            raise InputError(
                f"{where}: line {line}: split {shown(row['split'])} is not one of "
                f"{', '.join(NAMES)}{suggestion(row['split'], NAMES)}"
            )
        labels[file] = Label(row["class"], split, row.get("group", ""), line)
    if not labels:
        raise InputError(f"{where}: has no row; write one for each image")
    _check_splits(labels, where)
    return labels


def unused_columns(path: Path) -> list[str]:
    """Return the names of the columns of a table, as `read_labels` takes it, that are not used."""
    reader = _reader(path.read_text(encoding="utf-8-sig"))
    return [name for name in reader.fieldnames or () if name not in (*REQUIRED, *OPTIONAL)]


def _reader(text: str) -> csv.DictReader[str]:
    """Return what reads the rows, with the names of the columns in lower case."""
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)  # the comma where there is none
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter)
    reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    return reader


def _rows(text: str, where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line and its cells by column, none of them empty."""
    line = 1
    try:
        reader = _reader(text)
        columns = list(reader.fieldnames or ())
        _check_columns(columns, where)
        known = [name for name in (*REQUIRED, *OPTIONAL) if name in columns]
        for cells in reader:
            line = reader.line_num
            if any(cell.strip() for cell in cells.get(None, ())):  # where the reader puts surplus
                raise InputError(
                    f"{where}: line {line}: has more cells than columns; put quotes around a value "
                    f"that has {shown(reader.reader.dialect.delimiter)} in it"
                )
            row = {name: (cells[name] or "").strip() for name in known}
            for name, value in row.items():
                if not value:
                    raise InputError(
                        f"{where}: line {line}: has no {name}; write one, or remove the "
                        f"{'row' if name in REQUIRED else f'column {name}'}"
                    )
            yield line, row
    except csv.Error as error:
        raise InputError(f"{where}: after line {line}: {error}") from None


def _check_columns(columns: list[str], where: str) -> None:
    for name in REQUIRED:
        if name not in columns:
            found = ", ".join(shown(column) for column in columns) or "none"
            raise InputError(
                f"{where}: has no column '{name}', but {found}; its first line has to name the "
                "columns file,class[,split][,group]"
            )
    others = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    for name in (*REQUIRED, *OPTIONAL):
        if columns.count(name) > 1:
            raise InputError(f"{where}: has the column '{name}' twice; leave one")
    for other in others:
        missing = [name for name in OPTIONAL if name not in columns]
        if meant := difflib.get_close_matches(other, missing, 1, MISSPELT):
            raise InputError(
                f"{where}: the column {shown(other)} is unknown (did you mean '{meant[0]}'?); "
                "rename or remove it"
            )


def _check_splits(labels: Mapping[PurePosixPath, Label], where: str) -> None:
    """Raise an `InputError` if none is for training, or a group lies in two splits."""
    first: dict[str, tuple[PurePosixPath, Label]] = {}
    for file, label in labels.items():
        if not label.group:
            break
        other_file, other = first.setdefault(label.group, (file, label))
        if other.split != label.split:
            raise InputError(
                f"{where}: group {shown(label.group)} lies in two splits: {shown(str(other_file))} "
                f"in {other.split} (line {other.line}), {shown(str(file))} in {label.split} (line "
                f"{label.line}); put all images of a group into one"
            )
    splits = {label.split for label in labels.values()}
    if splits != {""} and "train" not in splits:
        raise InputError(
            f"{where}: no image is in the split 'train'; write it, or remove the column split"
        )
