"""Names of files, which may hold anything, in tables and in messages."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

CSV_LINE_END = "\r\n"


class _Lines:
    """A text file that ends the lines of a `csv.writer` with a plain newline.

    The writer quotes a field that holds a character of its line end. Only with both in it do names
    with a carriage return and with a newline survive.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix(CSV_LINE_END) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as UTF-8; `csv` reads every field as it was, if opened with ``newline=""``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Lines(file), lineterminator=CSV_LINE_END)
        writer.writerow(header)
        writer.writerows(rows)


def printable(name: str) -> str:
    r"""Return the name of a file on one line: ``\n`` for a newline, ``\xe9`` where not UTF-8."""
    return "".join(
        character if character.isprintable() else _escaped(character) for character in name
    )


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00  # where `os.fsdecode` puts a byte that isn't UTF-8
    if 0x80 <= byte <= 0xFF:
        return f"\\x{byte:02x}"
    return character.encode("unicode_escape").decode()
