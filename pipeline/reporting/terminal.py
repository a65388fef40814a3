"""The comparison, printed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.errors import InputError
from pipeline.reporting import wording


def print_summary(reports: Path) -> None:
    """Print the comparison of the report in the folder `reports`, and where the report is.

    Raises:
        InputError: if there is none.
    """
    path = reports / "tables" / "comparison.csv"
    try:
        comparison = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the report first (dvc repro)") from None
    console = Console()
    console.print(summary_table(comparison))
    console.print(f"report: {reports / 'report.md'}", highlight=False, soft_wrap=True)


def summary_table(comparison: pd.DataFrame) -> Table:
    """Return the table of ``comparison.csv`` for a terminal of 80 columns."""
    table = Table(title="Test accuracy and its price", box=None, padding=(0, 1, 0, 0))
    table.add_column("architecture", overflow="fold")
    for heading in (
        "accuracy\n%",
        "difference\nin points",
        "verdict",
        "param-\neters",
        "latency\nms",
        "training",
    ):
        table.add_column(heading, justify="right")
    for row in comparison.to_dict("records"):
        has_baseline = not pd.isna(row["difference"])
        bounds = (
            f"{wording.points(row['difference'])}\n"
            f"({wording.points(row['difference_low'])} to {wording.points(row['difference_high'])})"
        )
        table.add_row(
            str(row["model"]),
            wording.spread(row["accuracy"], row["accuracy_sd"]),
            bounds if has_baseline else wording.ABSENT,
            str(row["verdict"]) if has_baseline else wording.ABSENT,
            wording.large(row["parameters"]),
            f"{row['latency_ms']:.3g}",
            wording.duration(row["training_seconds"]),
        )
    return table
