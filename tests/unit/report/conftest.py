"""Projects whose reports the tests read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipeline.figures import galleries
from pipeline.stages import report
from tests.unit.made_records import write_figure
from tests.unit.report.made_project import Project, into_folds, into_splits, settings


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write blank figures: most tests read what is said, and drawing takes seconds.

    Figures of many panels are not even made.
    """

    def save(figure: Any, path: Path) -> None:
        write_figure(path)

    monkeypatch.setattr(report, "save", save)
    monkeypatch.setattr(report, "draw_samples", lambda *given: Figure())
    monkeypatch.setattr(galleries, "_draw_groups", lambda *given: Figure())


@pytest.fixture
def project(tmp_path: Path, blank_figures: None) -> Project:
    return Project(tmp_path, into_splits)


@pytest.fixture
def folds(tmp_path: Path, blank_figures: None) -> Project:
    return Project(tmp_path, into_folds)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Return a project with its report made, for tests that only read."""
    made = Project(tmp_path_factory.mktemp("project"), into_splits)
    return made, made.report(settings())
