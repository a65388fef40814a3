"""Pieces of Markdown."""

from __future__ import annotations

import pytest

from pipeline.report import markdown
from tests.unit.report.made_project import CLASSES, tables


@pytest.mark.parametrize("text", [*CLASSES, "a&amp;b", "~~x~~", "back\\slash", "1 < 2 > 0"])
def test_escaped_text_is_shown_as_it_is(text: str):
    rows = tables(markdown.table(f"| x |\n| {markdown.escape(text)} |"))[0]
    assert rows[1] == [text]


@pytest.mark.parametrize(
    ("cells", "alignment"),
    [
        (["85.46 ± 0.10", "86.98"], "--:"),
        (["-", "+0.48 (+0.06 to +0.91) against `cnn`"], "--:"),
        (["1,147,914", "11.4 M", "**45,000**", "< 0.0001", "2 s"], "--:"),
        (["pays", "-"], ":--"),
        (["50 epochs, Adam", "3"], ":--"),
    ],
)
def test_columns_of_numbers_are_set_to_the_right(cells: list[str], alignment: str):
    rules = markdown.table(
        "\n".join(["| a | b |", *(f"| 1 | {cell} |" for cell in cells)])
    ).splitlines()[1]
    assert rules == f"| :-- | {alignment} |"
