"""The comparison, printed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.system import formats
from pipeline.system.errors import InputError


def print_summary(reports: Path) -> None:
    """Print the comparison of the report in the folder `reports`, its answer, and where it is.

    Raises:
        InputError: if there is none.
    """
    path = reports / "comparison.csv"
    try:
        comparison = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the report first (dvc repro)") from None
    architectures = comparison[comparison["kind"] == "architecture"]
    ensembles = comparison[comparison["kind"] == "ensemble"]
    console = Console()
    console.print(summary_table(architectures))
    if len(ensembles):
        console.print(ensembles_table(ensembles))
    if architectures["confounders"].notna().any():
        console.print("* the two differ in more than attention", highlight=False)
    console.print(Text(_answer(reports / "report.md")), end="")
    for name in ("report.html", "report.md"):
        console.print(Text(f"report: {reports / name}"), soft_wrap=True)


def _answer(report: Path) -> str:
    """Return what the report's first paragraph says, as a line of plain text; "" without a report.

    It is in the file as Markdown, whose marks are left out.
    """
    try:
        text = report.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    tokens = MarkdownIt("commonmark").parse(text)
    for before, token in pairwise(tokens):
        if before.type == "paragraph_open":
            parts = (" " if of.type == "softbreak" else of.content for of in token.children or ())
            return "".join(parts) + "\n"
    return ""


def summary_table(architectures: pd.DataFrame) -> Table:
    """Return the architectures of ``comparison.csv`` for a terminal of 80 columns."""
    table = _table(
        "Test accuracy and its price",
        "architecture",
        [
            "accuracy\n%",
            "difference\nin points",
            "verdict",
            "param-\neters",
            "latency\nms",
            "training",
        ],
    )
    for row in architectures.to_dict("records"):
        has_baseline = not pd.isna(row["difference"])
        bounds = (
            f"{formats.points(row['difference'])}\n"
            f"({formats.points(row['difference_low'])} to {formats.points(row['difference_high'])})"
        )
        table.add_row(
            str(row["model"]),
            formats.spread(row["accuracy"], row["accuracy_sd"]),
            bounds if has_baseline else formats.ABSENT,
            _verdict(row) if has_baseline else formats.ABSENT,
            *_costs(row),
        )
    return table


def ensembles_table(ensembles: pd.DataFrame) -> Table:
    """Return the ensembles of ``comparison.csv`` for a terminal of 80 columns."""
    table = _table(
        "Ensembles: the mean of the members' probabilities",
        "members",
        ["accuracy\n%", "gain over\nmembers", "param-\neters", "latency\nms", "training"],
    )
    for row in ensembles.to_dict("records"):
        table.add_row(
            str(row["model"]).removeprefix("ensemble: "),
            formats.spread(row["accuracy"], row["accuracy_sd"]),
            formats.points(row["gain"]),
            *_costs(row),
        )
    return table


def _table(title: str, first: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _verdict(row: Mapping[Hashable, Any]) -> str:
    return f"{row['verdict']}{'' if pd.isna(row['confounders']) else ' *'}"


def _costs(row: Mapping[Hashable, Any]) -> tuple[str, str, str]:
    return (
        formats.large(row["parameters"]),
        f"{row['latency_ms']:.3g}",
        formats.duration(row["training_seconds"]),
    )
