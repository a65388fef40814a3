"""Measure what a run costs: all rows, or those that are named."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from benchmarks import table
from benchmarks.line import Line
from benchmarks.project import ROOT
from benchmarks.rows import ROWS
from pipeline.system.errors import InputError, choose
from pipeline.system.progress import say

WIDTH_OF_LOG = 200
PAGE = ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table as it grows, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="write these rows to a page of their own"
    )
    chosen = parser.parse_args(arguments)
    try:
        for row in chosen.rows:
            choose(row, ROWS, "ROW")
    except InputError as error:
        parser.error(str(error))
    if chosen.write and not chosen.write.parent.is_dir():
        parser.error(f"--write: {chosen.write.parent}: no such folder; make it first")
    measured = measure(chosen.rows or list(ROWS))
    page = chosen.write or (None if chosen.rows else PAGE)
    if page:
        options = " ".join([*chosen.rows, "--write", str(chosen.write)])
        written_by = f"python -m benchmarks {options}" if chosen.write else "make bench"
        page.write_text(table.page(measured, written_by), encoding="utf-8")
        print(f"{os.path.relpath(page)} is written")


def measure(rows: Sequence[str]) -> dict[str, list[Line]]:
    """Measure some rows, showing each line as it is known."""
    measured: dict[str, list[Line]] = {row: [] for row in rows}
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_OF_LOG
    with Live(console=console, auto_refresh=False) as live:
        for row in rows:
            for line in ROWS[row]():
                measured[row].append(line)
                live.update(table.terminal_table(measured), refresh=True)
                if not console.is_terminal:
                    say(f"{line.what}: {line.figure()}, {line.mark}: {line.verdict()}")
    for lines in measured.values():
        for line in lines:
            console.print(f"{line.what}: {line.limits}", markup=False, highlight=False)
    return measured


if __name__ == "__main__":
    main()
