"""The answers of predict, as a table for a person and as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.data.sources.listing import is_utf8
from pipeline.system.text import printable

BAR_WIDTH = 20
WIDEST = 100_000  # columns; more than any names take


@dataclass(frozen=True)
class Prediction:
    """What the networks of all seeds predict together for one image."""

    file: Path
    classes: tuple[str, ...]  # the names of the likeliest, the likeliest first
    drawn: tuple[str, ...]  # the same as figures have them
    probabilities: tuple[float, ...]  # of these, in [0, 1]
    agreeing: int  # networks that find the first of `classes` the likeliest on their own
    members: int  # networks
    figure: Path

    @property
    def agreement(self) -> str:
        """How many networks predict the same class, in words."""
        return f"{self.agreeing} of {self.members}"


@dataclass(frozen=True)
class Failure:
    """A file that could not be classified, and why in a few words."""

    file: Path
    reason: str


Answer = Prediction | Failure


def print_answers(answers: Sequence[Answer], model: str) -> None:
    """Print a table of what was classified, and the folder of the figures that it names."""
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    if not predictions:
        return
    table, console = answers_table(predictions, model), Console()
    width = Console(width=WIDEST).measure(table).maximum  # no name broken, so they can be copied
    Console(width=max(console.width, width)).print(table, crop=False)
    note = "Every image gets one of the classes, even if it shows none of them."
    console.print(note, highlight=False)
    folder = printable(str(predictions[0].figure.parent))
    console.print(Text(f"figures: {folder}"), soft_wrap=True)


def answers_table(predictions: Iterable[Prediction], model: str) -> Table:
    """Return a row for each image and class, the likeliest class of each image first."""
    table = Table(title=f"Predictions of {model}", box=None, padding=(0, 1, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("", width=BAR_WIDTH)
    table.add_column("seeds that\nagree", justify="right")
    table.add_column("figure", overflow="fold")
    for prediction in predictions:
        figure = _text(prediction.figure.name)
        first = (_text(str(prediction.file)), Text(prediction.agreement), figure)
        for name, probability in zip(prediction.classes, prediction.probabilities, strict=True):
            bar = ProgressBar(total=1.0, completed=probability, width=BAR_WIDTH)
            table.add_row(first[0], _text(name), f"{probability:.2%}", bar, *first[1:])
            first = (Text(), Text(), Text())
    return table


def answers_json(answers: Sequence[Answer]) -> str:
    """Return a list of objects: file, and predictions, agreement and heatmap, or error.

    Names of files are as they are, except those that are not UTF-8, which JSON can't hold.
    """
    records: list[dict[str, Any]] = []
    for answer in answers:
        record: dict[str, Any] = {"file": _written(answer.file)}
        if isinstance(answer, Failure):
            record["error"] = answer.reason
        else:
            record["predictions"] = [
                {"class": name, "probability": probability}
                for name, probability in zip(answer.classes, answer.probabilities, strict=True)
            ]
            record["agreement"] = {"agreeing": answer.agreeing, "seeds": answer.members}
            record["heatmap"] = _written(answer.figure)
        records.append(record)
    return json.dumps(records, indent=2)


def _written(path: Path) -> str:
    """Return the name that a program opens a file by; a printable one where it is not UTF-8."""
    name = str(path)
    return name if is_utf8(name) else printable(name)


def _text(name: str) -> Text:
    """Return a name as it is: neither rich's markup nor a line end in it means anything."""
    return Text(printable(name))
