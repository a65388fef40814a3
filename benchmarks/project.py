"""A checkout of this project in a folder of its own, and commands that run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import seconds_of

ROOT = Path(__file__).parent.parent
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Benchmark"), ("EMAIL", "benchmark@example.org"))
}
# A child's peak is at least that of the process that it was forked from: this one is small.
PEAK = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


class CommandFailedError(Exception):
    """A measured command didn't end well; the message has its output."""


@dataclass(frozen=True)
class Project:
    """A checkout with its own DVC cache."""

    root: Path

    def output(self, *command: str) -> str:
        """Run a command and return what it prints to standard output."""
        done = subprocess.run(
            command, cwd=self.root, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CommandFailedError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def seconds(self, *command: str) -> float:
        """Run a command and return how long it took."""
        return seconds_of(lambda: self.output(*command))

    def peak_bytes(self, *command: str) -> int:
        """Run a command and return the most memory that it held, mapped files included."""
        peak = int(self.output(sys.executable, "-c", PEAK, *command).split()[-1])
        return peak if sys.platform == "darwin" else 1024 * peak

    def pipeline(self, *arguments: str) -> tuple[str, ...]:
        """Return the command line of a stage or command."""
        return (sys.executable, "-m", "pipeline", *arguments)

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of params.yaml, which must be there once."""
        path = self.root / "params.yaml"
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise CommandFailedError(f"{path}: {old!r} is there {text.count(old)} times, not once")
        path.write_text(text.replace(old, new), encoding="utf-8")


def environment() -> dict[str, str]:
    """Return the environment of an activated virtual environment."""
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return dict(os.environ) | IDENTITY | {"PATH": os.pathsep.join(programs)}


def copy_working_tree(root: Path) -> None:
    """Copy the files that git tracks or would track here into the folder `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


@contextmanager
def checkout() -> Iterator[Project]:
    """Yield a copy of this project, committed to git."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        copy_working_tree(Path(folder))
        project = Project(Path(folder))
        project.output("git", "init", "--quiet", "--initial-branch=main")
        project.output("git", "add", "--all")
        project.output("git", "commit", "--quiet", "--message", "the project")
        yield project


@contextmanager
def smoke_project(seeds: int) -> Iterator[Project]:
    """Yield a checkout with the preset `smoke` and so many seeds."""
    with checkout() as project:
        project.output(*project.pipeline("preset", "smoke"))
        project.edit("seeds: [0, 1]\n", f"seeds: {list(range(seeds))}\n")
        yield project
