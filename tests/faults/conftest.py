"""Projects to break, and the record of what came of it."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from tests.faults import record
from tests.faults.record import Seen
from tests.faults.stages import EPOCHS, results
from tests.projects import Project, checkout, copied, shared

BEGAN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=6, help="of the moments and places of the faults")
    parser.addoption("--write", action="store_true", help="write docs/reliability.md")


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: seed {config.getoption('seed')}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if hasattr(config, "workerinput"):  # a process of the run that has seen some of the faults
        return
    reports = terminalreporter.getreports("passed")
    events = [
        Seen(*seen)
        for report in reports
        if report.when == "call"
        for name, seen in report.user_properties
        if name == "seen"
    ]
    if not events:
        return
    minutes = (time.monotonic() - BEGAN) / 60
    text = record.summary(events, config.getoption("seed"), minutes)
    terminalreporter.section("faults")
    terminalreporter.write_line(text)
    if config.getoption("write"):
        if exitstatus == pytest.ExitCode.OK:
            record.write(text)
        else:
            terminalreporter.write_line("docs/reliability.md: not written: failed or broken off")


@pytest.fixture
def see(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note a fault, where it was, what was expected, what came of it, and how often."""

    def note(fault: str, where: str, expected: str, outcome: str, times: int = 1) -> None:
        record_property("seen", astuple(Seen(fault, where, expected, outcome, times)))

    return note


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The same moments and places for the same seed and test."""
    return random.Random(f"{request.config.getoption('seed')} {request.node.name}")


def small(root: Path) -> Project:
    """Make a project of two architectures and one seed in which nothing has run."""
    project = checkout(root)
    project.leave_architectures("cnn", "ca_cnn")
    project.edit("seeds: [0, 1]", "seeds: [0]")
    project.edit("  epochs: 2 ", f"  epochs: {EPOCHS} ")
    project.commit("small")
    return project


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran without a fault; not to be changed."""

    def make(root: Path) -> None:
        project = small(root)
        project.snakemake(cores=2)
        project.commit("a run")

    return shared(tmp_path_factory, "undisturbed", make)


@pytest.fixture(scope="session")
def right(undisturbed: Project) -> dict[str, str]:
    """The sha256 of all results that have no time in them."""
    found = results(undisturbed.root)
    assert len([path for path in found if path.endswith(".safetensors")]) == 2
    return found


@pytest.fixture
def finished(undisturbed: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, with its cache, to break."""
    return copied(undisturbed, tmp_path / "finished")


@pytest.fixture
def begun(tmp_path: Path) -> Project:
    """The same project in which nothing has run."""
    return small(tmp_path / "begun")


class Disk:
    """A file system in memory, of so many bytes.

    Args:
        root: the folder to mount it at.
        size: in bytes.
    """

    def __init__(self, root: Path, size: int) -> None:
        self.root = root
        root.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def resize(self, size: int) -> None:
        self._mount("-o", f"remount,size={size}")

    def read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def writable(self) -> None:
        self._mount("-o", "remount,rw")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(
            ["mount", *arguments, str(self.root)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stderr}: run as root, with the right to mount"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Make a small disk; it is gone after the test."""
    made: list[Disk] = []

    def make(size: int) -> Disk:
        made.append(Disk(tmp_path / f"disk {len(made)}", size))
        return made[-1]

    yield make
    for each in made:
        each.unmount()
