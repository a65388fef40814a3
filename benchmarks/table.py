"""The table of all lines, on the terminal and as Markdown."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.markup import escape
from rich.table import Table

from benchmarks.line import Line
from pipeline.system.machine import cores, cpu_name

HEADINGS = ("what", "ours", "against", "median (range of the turns)", "mark", "", "command")
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "dvc", "snakemake")


def command(row: str) -> str:
    """Return what measures one row alone."""
    return f"python -m benchmarks {row}"


def cells(row: str, line: Line) -> tuple[str, ...]:
    """Return what stands in each column of a line."""
    return (
        line.what,
        line.ours,
        line.against,
        line.figure(),
        str(line.mark),
        line.verdict(),
        f"`{command(row)}`",
    )


def terminal_table(measured: Mapping[str, Sequence[Line]]) -> Table:
    """Return the table for a terminal."""
    table = Table(*HEADINGS, title=f"Measured on {cpu_name()}, {cores()} cores", show_lines=True)
    for row, lines in measured.items():
        for line in lines:
            table.add_row(*(escape(cell.replace("`", "")) for cell in cells(row, line)))
    return table


def page(measured: Mapping[str, Sequence[Line]], written_by: str) -> str:
    """Return a page: hardware, versions, date, table, and what limits each line."""
    rows = [(row, line) for row, lines in measured.items() for line in lines]
    listed = [HEADINGS, tuple("---" for _ in HEADINGS), *(cells(*one) for one in rows)]
    table = "\n".join(f"| {' | '.join(_in_table(cell) for cell in row)} |" for row in listed)
    limits = "\n".join(f"- **{line.what}**: {line.limits}" for _, line in rows)
    return f"""# What a run costs

Written by `{written_by}` on {time.strftime("%Y-%m-%d", time.gmtime())}. Both sides of a row take
turns on the same machine; the median of the turns counts, the range is the lowest and the highest.
The command in the last column measures its row alone.

{hardware()}

{table}

## What limits each

{limits}
"""


def hardware() -> str:
    """Return the machine and the versions, a line each."""
    machine = f"{cpu_name()}, {cores()} cores"
    if torch.cuda.is_available():
        machine += f"; {torch.cuda.get_device_name(0)}"
    versions = ", ".join(f"{name} {found}" for name, found in _installed())
    return (
        f"- {machine}; {platform.system()}, {torch.backends.cpu.get_cpu_capability()}\n"
        f"- Python {platform.python_version()}, {versions}"
    )


def _installed() -> Iterator[tuple[str, str]]:
    """Yield the libraries that are there: a machine with a GPU need not have the engines."""
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


def _in_table(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
