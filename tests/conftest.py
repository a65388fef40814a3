"""What a test needs of the machine, and the projects that tests share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.projects import Project, checkout, copied, leave_densenets_and_one_seed, shared

# before PyTorch and NumPy start theirs: the processes that test are as many as there are cores
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out where a program is missing that it needs; with CI=true that is an error."""
    needed = {need for mark in item.iter_markers("needs") for need in mark.args}
    absent = needs.missing(tuple(sorted(needed)))
    if not absent:
        return
    reason = f"needs {', '.join(absent)}: {needs.remedy(absent)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    item.user_properties.append(("left out", absent))
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say in the last line what was left out."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    left_out: Counter[tuple[str, ...]] = Counter()
    others: Counter[str] = Counter()
    for report in skipped:
        absent = dict(report.user_properties).get("left out")
        if absent:
            left_out[tuple(absent)] += 1
        else:
            others[report.longrepr[2].removeprefix("Skipped: ")] += 1
    if skipped:
        reporter.write_line(needs.closing_line(left_out, others))


@pytest.fixture(scope="session")
def snakemade(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke preset as ``snakemake --cores 4`` leaves it."""

    def make(root: Path) -> None:
        project = checkout(root)
        project.snakemake(cores=4)
        project.commit("a run")

    return shared(tmp_path_factory, "snakemade", make)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The DenseNets of the smoke preset with its first seed, as ``dvc repro`` leaves them."""

    def make(root: Path) -> None:
        project = checkout(root)
        leave_densenets_and_one_seed(project)
        project.dvc("repro")
        project.commit("a run")

    return shared(tmp_path_factory, "reproduced", make)


@pytest.fixture(scope="session")
def compared(snakemade: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished project and its experiment ``other``, which puts another candidate forward."""

    def make(root: Path) -> None:
        done = copied(snakemade, root).dvc(
            "exp", "run", "--name", "other", "--set-param", "model=se_densenet"
        )
        (root / "logs").mkdir()
        (root / "logs" / "experiment").write_text(done.stdout)

    return shared(tmp_path_factory, "compared", make)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Project], Project]:
    """Copies of a finished project to change at will."""
    return lambda project: copied(project, tmp_path / "copy")


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """The smoke preset in which nothing has run."""
    return checkout(tmp_path / "fresh")
