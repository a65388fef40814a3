"""``comparison.tex``: what stands in a paper is what stands in ``comparison.csv``."""

from __future__ import annotations

import re

import pandas as pd

from pipeline.settings import load
from tests.unit.report.made_project import MODELS, Project, settings


def rows(text: str) -> list[list[str]]:
    """The cells of a tabular, without what LaTeX makes of them."""
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    lines = [line.removesuffix(" \\\\") for line in body.splitlines()]
    plain = [re.sub(r"\\texttt\{(.*?)\}", r"\1", line).replace("\\_", "_") for line in lines]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in plain]


def test_table_has_the_architectures_and_their_pairs(project: Project) -> None:
    project.report(settings())
    text = (project.reports / "comparison.tex").read_text()
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    assert [row[0] for row in rows(text)] == MODELS
    ((columns, headings),) = re.findall(r"\\begin\{tabular\}\{(\w+)\}\n\\toprule\n(.*) \\\\", text)
    assert {len(columns), headings.count("&") + 1} == {8}
    for row in rows(text):
        assert len(row) == 8
        expected = table.loc[row[0]]
        assert row[1] == f"${expected['accuracy']:.2f} \\pm {expected['accuracy_sd']:.2f}$"
        paired = expected["verdict"] == expected["verdict"]  # NaN without a baseline
        assert row[2] == (expected["baseline"] if paired else "")
        assert row[4] == (expected["verdict"] if paired else "")
        if paired:
            numbers = [float(number) for number in re.findall(r"[+-]?\d+\.\d\d", row[3])]
            names = ("difference", "difference_low", "difference_high")
            assert numbers == [float(f"{expected[name]:.2f}") for name in names]


def test_second_baseline_has_a_line_without_costs_and_two_differences_a_star(
    project: Project,
) -> None:
    content = settings().model_dump()
    content["architectures"]["ca_cnn"] |= {"baseline": ["cnn", "densenet"]}
    project.report(load.check(content))
    found = rows((project.reports / "comparison.tex").read_text())
    place = [row[0] for row in found].index("ca_cnn")
    first, second = found[place : place + 2]
    assert [first[2], second[2]] == ["cnn", "densenet"]
    assert second[:2] + second[5:] == [""] * 5
    assert second[4].endswith("*")
    assert not first[4].endswith("*")
