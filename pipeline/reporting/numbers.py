"""Tables of numbers as CSV, with the same bytes on every run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

# A spreadsheet takes a cell that begins so for a formula, and some formulas start programs.
FORMULA = ("=", "+", "-", "@", "\t")


def as_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV with six digits and the same ends of lines on every system.

    A name that a spreadsheet would take for a formula has an apostrophe before it.
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
    line = value.replace("\r", r"\r")  # pandas doesn't quote it, and many readers begin a row there
    return f"'{line}" if line.startswith(FORMULA) else line
