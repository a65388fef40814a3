"""Tables of numbers as CSV, with the same bytes on every run."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

# A spreadsheet takes a cell that begins so for a formula, and some formulas start programs.
FORMULA = ("=", "+", "-", "@")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # characters that a terminal obeys, and ends of lines


def as_csv(table: pd.DataFrame) -> str:
    r"""Return a table as CSV with six digits and the same ends of lines on every system.

    A name that a spreadsheet would take for a formula has an apostrophe before it, and a control
    character in a name is written as ``\n`` or ``\x1b``.
    """
    inert = table.apply(lambda column: column.map(_inert))
    text: str = inert.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, see `as_csv`."""
    path.write_text(as_csv(table), encoding="utf-8")


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    line = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    return f"'{line}" if line.startswith(FORMULA) else line
