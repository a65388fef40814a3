"""What the engines show of a run by themselves: Snakemake's report, DVC's plots and metrics."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project

pytestmark = pytest.mark.slow

SHOWN = (
    "reports/figures/**/*.svg",
    "reports/figures/**/*.png",
    "reports/tables/*.csv",
    "reports/comparison.csv",
)


def reported(archive: Path) -> dict[str, dict[str, Any]]:
    """What Snakemake's report lists, by path."""
    with zipfile.ZipFile(archive) as files:
        page = files.read("report/report.html").decode()
    listed = re.search(r'<script id="results">\s*var results = (\{.*\})', page)
    assert listed is not None
    found: dict[str, dict[str, Any]] = json.JSONDecoder().raw_decode(listed.group(1))[0]
    return found


def test_snakemakes_report_shows_every_figure_and_table_with_a_caption(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    project.snakemake("--report", "report.zip")
    found = reported(project.root / "report.zip")
    expected = {
        str(path.relative_to(project.root))
        for pattern in SHOWN
        for path in project.root.glob(pattern)
    }
    assert set(found) == expected | {"reports/report.html"}
    for path, result in found.items():
        assert re.search(r"<p>.{20,}</p>", result["caption"], re.DOTALL), path
        assert result["labels"]["shows"], path
    figures = [result["labels"] for path, result in found.items() if "/architectures/" in path]
    assert {labels["architecture"] for labels in figures} == {
        "cnn", "ca_cnn", "densenet", "se_densenet",
    }  # fmt: skip
    assert project.is_clean()


def test_dvc_plots_every_plot_of_two_experiments(
    compared: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(compared)
    plots = json.loads(project.dvc("plots", "diff", "--json").stdout)
    assert not plots.get("errors")
    drawn = {name: rendered for name, rendered in plots["data"].items() if rendered}
    assert set(drawn) == {
        "Validation accuracy by epoch",
        "Confusion of the candidate",
        "Mistakes of the candidate by class",
        "Reliability of the candidate",
    }
    for name, rendered in drawn.items():
        revisions = {revision for plot in rendered for revision in plot["revisions"]}
        assert revisions == {"workspace", "HEAD"}, name
    metrics = json.loads(project.dvc("metrics", "diff", "--json").stdout)
    assert {"accuracy", "difference", "ece", "nll", "brier"} <= set(metrics["reports/metrics.json"])
