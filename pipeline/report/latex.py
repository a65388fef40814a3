r"""The comparison as LaTeX, to be ``\input`` into a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.statistics.criteria import ACCURACY_NAMES
from pipeline.system import formats

COLUMNS = {
    "Architecture": "l",
    "Accuracy": "r",
    "Baseline": "l",
    "Difference": "r",
    "Verdict": "l",
    "Parameters": "r",
    "MACs": "r",
    "Latency": "r",
}
COMMENT = r"""% \usepackage{booktabs}. Differences are in percentage points, with their intervals.
% A star: the architecture differs from its baseline in more than one thing.
"""


def latex(table: pd.DataFrame) -> str:
    """Return a ``tabular``: a row for each architecture, and one for each of its baselines.

    Args:
        table: that of ``comparison.csv``; its ensembles are left out.
    """
    rows = table[table["kind"] != "ensemble"].to_dict("records")
    names = list(dict.fromkeys(row["model"] for row in rows))
    rows.sort(key=lambda row: names.index(row["model"]))
    accuracy = ACCURACY_NAMES[table["judged_by"].iloc[0]].capitalize()
    cells = pd.DataFrame([_cells(row) for row in rows], columns=list(COLUMNS))
    cells = cells.rename(columns={"Accuracy": rf"{accuracy} (\%)"})
    tabular = cells.to_latex(index=False, column_format="".join(COLUMNS.values()))
    return f"{COMMENT}{tabular}"


def _cells(row: Mapping[Any, Any]) -> list[str]:
    name, accuracy, costs = "", "", [""] * 3
    if row["kind"] == "architecture":
        name = _typewriter(row["model"])
        accuracy = _number(formats.spread(row["accuracy"], row["accuracy_sd"]))
        costs = [
            formats.large(row["parameters"]),
            formats.large(row["macs"]),
            formats.latency(row["latency_ms"]),
        ]
    if pd.isna(row["difference"]):
        return [name, accuracy, "", "", "", *costs]
    difference = _number(formats.points(row["difference"]))
    if not pd.isna(row["difference_low"]):
        low, high = (_number(formats.points(row[f"difference_{end}"])) for end in ("low", "high"))
        difference = f"{difference} ({low} to {high})"
    verdict = row["verdict"] + ("*" if row["confounded"] is True else "")
    return [name, accuracy, _typewriter(row["baseline"]), difference, verdict, *costs]


def _number(text: str) -> str:
    return f"${text.replace('±', chr(92) + 'pm')}$"


def _typewriter(name: str) -> str:
    escaped = name.replace("_", r"\_")
    return rf"\texttt{{{escaped}}}"
