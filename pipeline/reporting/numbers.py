"""Tables of numbers as CSV, with the same bytes on every run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def as_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV with six digits and the same ends of lines on every system."""
    text: str = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, see `as_csv`."""
    path.write_text(as_csv(table), encoding="utf-8")
