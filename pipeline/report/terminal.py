"""The comparison, printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.report.filters import environment
from pipeline.statistics.criteria import ACCURACY_NAMES
from pipeline.storage.reading import reading, remedy
from pipeline.system import formats


def print_summary(reports: Path) -> None:
    """Print the comparison of the report in the folder `reports`, its answer, and where it is.

    Raises:
        InputError: if there is none, or its table is corrupt.
    """
    path, again = reports / "comparison.csv", "make the report again: dvc repro -f -s report"
    with remedy("make the report first (dvc repro)", again), reading(path):
        comparison = pd.read_csv(path)
        architectures = comparison[comparison["kind"] != "ensemble"]
        ensembles = comparison[comparison["kind"] == "ensemble"]
        tables = [summary_table(architectures)]
        if len(ensembles):
            tables.append(ensembles_table(ensembles))
    console = Console()
    for table in tables:
        console.print(table)
    if _confounded(architectures).any():
        words = vars(environment().get_template("answer.j2").module)
        console.print(f"* {words['more_than_one_thing']}", highlight=False)
    for line in _answer(reports / "report.md"):
        console.print(Text(line))
    for name in ("report.html", "report.md"):
        console.print(Text(f"report: {reports / name}"), soft_wrap=True)


def _answer(report: Path) -> list[str]:
    """Return the paragraphs before the first section without their Markdown; none of no report."""
    try:
        text = report.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for before, token in pairwise(MarkdownIt("commonmark").parse(text)):
        if (before.type, before.tag) == ("heading_open", "h2"):
            break
        children = token.children or ()
        if before.type == "paragraph_open" and all(of.type != "image" for of in children):
            lines.append("".join(" " if of.type == "softbreak" else of.content for of in children))
    return lines


def summary_table(architectures: pd.DataFrame) -> Table:
    """Return the architectures of ``comparison.csv`` for a terminal of 80 columns.

    A row for another baseline follows its architecture's.
    """
    names = architectures["model"].unique()
    order = architectures["model"].map({name: place for place, name in enumerate(names)})
    architectures = architectures.iloc[order.argsort(kind="stable")]
    cells = []
    stars = _confounded(architectures).map({True: " *", False: ""})
    for row, star in zip(architectures.to_dict("records"), stars, strict=True):
        difference, verdict = formats.ABSENT, formats.ABSENT
        if not pd.isna(row["difference"]):
            mean, low, high = (
                formats.points(row[f"difference{end}"]) for end in ("", "_low", "_high")
            )
            difference = f"{mean}\n({low} to {high})"
            if pd.isna(row["difference_low"]):
                difference = mean
            verdict = row["verdict"] + star
        name = row["model"] if row["kind"] == "architecture" else f"  - {row['baseline']}"
        cells.append((name, difference, verdict))
    headings = ("architecture", "difference\nin points", "verdict")
    name = ACCURACY_NAMES[architectures["judged_by"].iloc[0]]
    return _table(f"{name.capitalize()} and cost", headings, cells, architectures)


def _confounded(architectures: pd.DataFrame) -> pd.Series:
    return architectures["confounded"].eq(True)  # none where there is no baseline


def ensembles_table(ensembles: pd.DataFrame) -> Table:
    """Return the ensembles of ``comparison.csv`` for a terminal of 80 columns."""
    title = "Ensembles: the mean of the members' probabilities"
    members = ensembles["model"].str.removeprefix("ensemble: ")
    cells = zip(members, ensembles["gain"].map(formats.points), strict=True)
    return _table(title, ("members", "gain over\nmembers"), cells, ensembles)


def _table(
    title: str, headings: Sequence[str], cells: Iterable[Sequence[str]], comparison: pd.DataFrame
) -> Table:
    """Return a table of `cells` with accuracy, after the first of them, and costs at the end."""
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    table.add_column(headings[0], overflow="fold")
    for heading in ("accuracy\n%", *headings[1:], "params", "latency\nms", "training"):
        table.add_column(heading, justify="right")
    for row, (first, *others) in zip(comparison.to_dict("records"), cells, strict=True):
        if row["kind"] == "pair":
            table.add_row(first, "", *others, "", "", "")
            continue
        accuracy = formats.spread(row["accuracy"], row["accuracy_sd"])
        parameters, latency = formats.large(row["parameters"]), f"{row['latency_ms']:.3g}"
        training = formats.duration(row["training_seconds"])
        table.add_row(first, accuracy, *others, parameters, latency, training)
    return table
