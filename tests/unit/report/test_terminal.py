"""The comparison, printed."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from pipeline.commands.models import print_architectures
from pipeline.report.terminal import ensembles_table, print_summary, summary_table
from pipeline.settings import load
from pipeline.system.errors import InputError
from tests.unit.report.made_project import MODELS, Project, settings


def test_summary_fits_a_terminal_and_names_the_report(
    reported: tuple[Project, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    project, _ = reported
    monkeypatch.setenv("COLUMNS", "80")
    print_summary(project.reports)
    printed = capsys.readouterr().out
    assert str(project.reports / "report.md") in printed
    assert str(project.reports / "report.html") in printed
    for model in MODELS:
        assert re.search(rf"^{model} ", printed, re.MULTILINE)

    for members in ("se_densenet, 2 seeds", "4 architectures"):
        assert re.search(rf"^{members} ", printed, re.MULTILINE)

    comparison = pd.read_csv(project.reports / "comparison.csv")
    console = Console(width=80)
    for kind, make in (("architecture", summary_table), ("ensemble", ensembles_table)):
        table = make(comparison[comparison["kind"] == kind])
        assert console.measure(table).maximum <= 80


def test_another_baseline_stands_below_its_architecture(
    project: Project, capsys: pytest.CaptureFixture[str]
):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["baseline"] = ["cnn", "densenet"]
    project.report(load.check(content))
    capsys.readouterr()
    print_summary(project.reports)
    table = capsys.readouterr().out.partition("Ensembles")[0]
    named = re.findall(r"^(?:  - )?\w+(?=  |\n| \d)", table, re.MULTILINE)
    assert [name for name in named if "cnn" in name or "net" in name] == [
        *("cnn", "ca_cnn", "  - densenet", "densenet", "se_densenet"),
    ]


def test_summary_marks_a_pair_that_differs_in_more_than_one_thing(
    project: Project, capsys: pytest.CaptureFixture[str]
):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["activation"] = "mish"
    project.report(load.check(content))
    capsys.readouterr()
    print_summary(project.reports)
    printed = capsys.readouterr().out
    assert "* the two differ in more than one thing" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("ca_cnn ") and "*" in line]
    assert " * " in line


def test_networks_of_a_library_are_listed_without_an_attention_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = settings().model_dump()
    library = {"family": "torchvision", "name": "squeezenet1_1", "small_inputs": True}
    content["architectures"] = {"ca_cnn": content["architectures"]["cnn"], "fire": library}
    print_architectures(load.check(content), tmp_path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "│ fire" in line]
    assert [cell.strip() for cell in line.split("│")[2:5]] == ["torchvision", "-", "-"]


def test_summary_without_a_report_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="make the report first"):
        print_summary(tmp_path)
