"""Checkouts of the working tree, committed to git, for tests that run the real engines in them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.project import copy_working_tree

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Tester"), ("EMAIL", "tester@example.org"))
}
Done = subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    """The environment of an activated virtual environment, without what the test run itself set."""
    own = ("OMP_NUM_THREADS", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    programs = [str(Path(sys.executable).parent), kept["PATH"]]
    return kept | IDENTITY | {"PATH": os.pathsep.join(programs)}


@dataclass(frozen=True)
class Project:
    """A checkout of this project with its own DVC cache."""

    root: Path

    def run(self, *command: str, expect: int | None = 0) -> Done:
        """Run a command in the project; fail unless it ends with the exit code `expect`."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        if expect is not None:
            assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def snakemake(self, *arguments: str, cores: int = 4, expect: int | None = 0) -> Done:
        return self.run("snakemake", "--cores", str(cores), *arguments, expect=expect)

    def dvc(self, *arguments: str, expect: int | None = 0) -> Done:
        return self.run("dvc", *arguments, expect=expect)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of params.yaml, which must be there once."""
        path = self.root / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in params.yaml"
        path.write_text(text.replace(old, new))

    def train_depends_on(self, file: str) -> None:
        """Name a file of one's own code among the deps of `train` in dvc.yaml."""
        path = self.root / "dvc.yaml"
        before, train, after = path.read_text().partition(
            "      - pipeline/training\n    params:\n"
        )
        assert train
        path.write_text(f"{before}      - {file}\n{train}{after}")

    def leave_architectures(self, *names: str) -> None:
        """Drop all other architectures from params.yaml, and put the last one forward."""
        path = self.root / "params.yaml"
        before, heading, rest = path.read_text().partition("\narchitectures:\n")
        listed, end, after = rest.partition("\ndata:\n")
        entries = re.split(r"^(?=  \w)", listed, flags=re.MULTILINE)
        left = "".join(entry for entry in entries if entry.strip().partition(":")[0] in names)
        before = re.sub(r"^model: \w+", f"model: {names[-1]}", before, flags=re.MULTILINE)
        path.write_text(before + heading + left + end + after)

    def is_clean(self) -> bool:
        """Tell whether DVC finds nothing that has changed."""
        return "up to date" in self.dvc("status").stdout

    def plans_nothing(self) -> bool:
        """Tell whether Snakemake finds nothing to do."""
        return "Nothing to be done" in self.snakemake("--dry-run").stdout

    def ran(self) -> set[str]:
        """The stages whose command ran in the last visit of Snakemake: those that wrote a log."""
        return {path.stem for path in (self.root / "logs").glob("*.log") if path.stat().st_size}

    def hashes(self, pattern: str) -> dict[str, str]:
        """The sha256 of the files that match `pattern`."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.glob(pattern))
            if path.is_file() and path.name != ".snakemake_timestamp"
        }


def checkout(root: Path, preset: str = "smoke") -> Project:
    """Make a project of the files that git tracks or would track here, with a preset's settings."""
    copy_working_tree(root)
    project = Project(root)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run(sys.executable, "-m", "pipeline", "preset", preset)
    project.commit("the project")
    return project


def copied(project: Project, root: Path) -> Project:
    """Copy a finished project, with its cache and its engines' state but without its logs."""
    shutil.copytree(project.root, root, symlinks=True)
    shutil.rmtree(root / "logs", ignore_errors=True)
    return Project(root)


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Project:
    """Make a project once, for all the processes of this test run; it is not to be changed."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    root, finished = base / name, base / f"{name}.finished"
    with FileLock(base / f"{name}.lock"):
        if not finished.exists():
            make(root)
            finished.touch()
    return Project(root)


def leave_densenets_and_one_seed(project: Project) -> None:
    project.leave_architectures("densenet", "se_densenet")
    project.edit("seeds: [0, 1]", "seeds: [0]")


def wait_until(
    condition: Callable[[], bool],
    seconds: float,
    output: Callable[[], str] = str,
    running: subprocess.Popen[str] | None = None,
) -> None:
    """Wait for something that a program does; fail if it takes very long or the program ends.

    Args:
        condition: whether it has happened.
        seconds: many times what it takes.
        output: what the program has printed, for the failure.
        running: the program.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert running is None or running.poll() is None, f"it has ended: {output()}"
        assert time.monotonic() < deadline, f"not after {seconds} seconds: {output()}"
        time.sleep(0.005)


def hear_interruptions() -> None:
    """Undo what a shell does to commands in the background, should these tests run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(
    project: Project, command: Sequence[str], printed: Path
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own; kill what is left of it at the end.

    Args:
        project: in which it runs.
        command: such as an engine.
        printed: the file for what it prints.
    """
    printed.parent.mkdir(parents=True, exist_ok=True)
    with printed.open("w") as output:
        running = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment(),
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interruptions,
        )
    try:
        yield running
    finally:
        kill_group(running)


def kill_group(running: subprocess.Popen[str], by: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to all processes of a command that was `started`; wait until they are gone."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, by)
        running.wait()
        while True:  # DVC takes a process that is ending for one that works
            os.killpg(running.pid, 0)
            time.sleep(0.01)
    running.wait()


def killed(
    project: Project,
    command: Sequence[str],
    when: Callable[[str], bool],
    after: float = 0.0,
    by: signal.Signals = signal.SIGKILL,
) -> str:
    """Start an engine and kill all its processes; return what it and its stages had printed.

    Args:
        project: in which to run it.
        command: the engine.
        when: whether what has been printed is reason to kill them.
        after: seconds to wait from then on.
        by: the signal that all get.
    """
    logs = project.root / "logs"
    for path in logs.glob("*"):
        path.unlink()

    def said() -> str:
        return "".join(path.read_text() for path in logs.iterdir())

    with started(project, command, logs / "all") as running:
        wait_until(lambda: when(said()), 300, said, running)
        time.sleep(after)
        kill_group(running, by)
    return said()
