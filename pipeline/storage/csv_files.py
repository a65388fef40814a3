"""CSV files with the same bytes on every run, whatever a name in them holds."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from pipeline.storage.reading import complete_text, reading
from pipeline.storage.records import Table

if TYPE_CHECKING:
    import pandas as pd

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


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as UTF-8; `csv` reads every field as it was, if opened with ``newline=""``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Lines(file), lineterminator=CSV_LINE_END)
        writer.writerow(header)
        writer.writerows(rows)


# A spreadsheet takes a cell that begins so for a formula, and some formulas start programs.
FORMULA = ("=", "+", "-", "@")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # characters that a terminal obeys, and ends of lines


def as_csv(table: pd.DataFrame) -> str:
    r"""Return a table as CSV with six digits and the same ends of lines on every system.

    A name that a spreadsheet would take for a formula has an apostrophe before it, and a control
    character in a name is written as ``\n`` or ``\x1b``.
    """
    return str(table.map(_inert).to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def write_table(table: pd.DataFrame, path: Path, kind: Table | None = None) -> None:
    """Write a table, see `as_csv`; one that another stage reads has the columns of its `kind`."""
    if kind is not None and list(table) != list(kind.columns):
        raise ValueError(f"{path.name} has the columns {list(table)}, not {list(kind.columns)}")
    path.write_text(as_csv(table), encoding="utf-8")


def read_table(path: Path, kind: Table) -> pd.DataFrame:
    """Read a table of another stage.

    Raises:
        MissingFileError: if there is no such file.
        CorruptFileError: if it ends within a line, has no row, or lacks a column or a value in one
            that isn't optional.
    """
    import pandas as pd  # a third of a second that no training and no evaluation needs

    with reading(path):
        table = pd.read_csv(StringIO(complete_text(path)), dtype=dict(kind.columns))
        missing = [column for column in kind.columns if column not in table]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
        if table.empty:
            raise ValueError("without a row")
        for column in kind.columns.keys() - kind.optional:
            if table[column].isna().any():
                raise ValueError(f"without a value in {column}")
            if kind.columns[column] == "float64" and not np.isfinite(table[column]).all():
                raise ValueError(f"{column} is not finite")
    return table


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    line = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    return f"'{line}" if line.startswith(FORMULA) else line
