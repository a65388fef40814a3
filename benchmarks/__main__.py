"""Measure what a run costs: all rows, or those that are named."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live

from benchmarks import table
from benchmarks.line import Line
from benchmarks.project import ROOT
from benchmarks.rows import ROWS
from pipeline.errors import InputError, choose
from pipeline.progress import say

WIDTH_OF_LOG = 200
PAGE = ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table as it grows, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument(
        "--write", action="store_true", help=f"write docs/{PAGE.name} with these rows alone"
    )
    chosen = parser.parse_args(arguments)
    try:
        for row in chosen.rows:
            choose(row, ROWS, "ROW")
    except InputError as error:
        parser.error(str(error))
    measured = measure(chosen.rows or list(ROWS))
    if chosen.write or not chosen.rows:
        PAGE.write_text(table.page(measured), encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} is written")


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
