"""The stages of one small project, and what of their outputs is the same in every run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline.test_engines import COMPARISON, RUNS
from tests.projects import Project, environment

EPOCHS = 20
MODEL = "ca_cnn"
ENGINES = {"snakemake": ["snakemake", "--cores", "2"], "dvc repro": ["dvc", "repro"]}
REPORTS = ("reports/figures/comparison", "reports/plots", "reports/tables", "reports/*.*")


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml.

    Attributes:
        arguments: of ``python -m pipeline``.
        out: the folder that it writes.
        parts: patterns of what it writes there, from the project's folder.
    """

    arguments: tuple[str, ...]
    out: str
    parts: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.parts or (self.out,)

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "pipeline", *self.arguments, *more]


STAGES = {
    "download": Stage(("download",), "data/raw"),
    "split": Stage(("split",), "data/splits"),
    "train": Stage(("train", "--model", MODEL, "--seed", "0"), f"data/trained/{MODEL}/0"),
    "evaluate": Stage(("evaluate", "--model", MODEL, "--seed", "0"), f"data/evaluated/{MODEL}/0"),
    "measure": Stage(("measure",), "data/measured"),
    "explain": Stage(("explain", "--model", MODEL), f"reports/figures/architectures/{MODEL}"),
    "report": Stage(("report",), "reports", REPORTS),
}


def results(root: Path) -> dict[str, str]:
    """The sha256 of all that has no time in it, by path."""
    hashes = Project(root).hashes
    return {
        path: sha256 for pattern in (*RUNS, *COMPARISON) for path, sha256 in hashes(pattern).items()
    }


def results_of(stage: Stage, root: Path) -> dict[str, str]:
    """The same of one stage's output."""
    own = {
        path.relative_to(root).as_posix()
        for pattern in stage.outputs
        for found in root.glob(pattern)
        for path in (found.rglob("*") if found.is_dir() else [found])
    }
    return {path: sha256 for path, sha256 in results(root).items() if path in own}


def run(command: list[str], root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        cwd=root,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line by which a stage says why it stopped."""
    assert done.returncode in (1, 2), f"{done.args}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    *before, last = done.stderr.splitlines()
    assert last.startswith("error: "), done.stderr
    assert not [line for line in before if "rror" in line], done.stderr
    return last


def remains(root: Path) -> list[str]:
    """What lies about of unfinished work, but for Snakemake's and DVC's own."""
    checkpoints = (root / ".cache" / "checkpoints").glob("*")
    parts = [*(root / "data").rglob(".incomplete*"), *(root / "reports").rglob(".incomplete*")]
    return [str(path) for path in (*checkpoints, *parts)]
