"""SIGKILL of everything, again and again: the next command goes on, to the same weights."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, checkout, environment, shared

pytestmark = pytest.mark.slow

KILLS = 10
LONGEST_SECONDS = 1.0
# From which line of the training's on the random time runs, in turn: its first, when little or
# nothing of an epoch is done yet, and that of the first epoch, so that every other gets somewhere.
SAID = ("training and", ": loss ")
EPOCHS = 600  # takes more than ten times as long, so that the last kill still interrupts something
TRAINED = "data/trained/cnn/0"
WEIGHTS = f"{TRAINED}/model.safetensors"
# They take turns: what one engine began, the other goes on with.
ENGINES = [["snakemake", "--cores", "1", TRAINED], ["dvc", "repro", "train"]]


def one_long_training(root: Path) -> Project:
    """Make a project of one architecture and one seed that trains for long."""
    project = checkout(root)
    project.leave_architectures("cnn")
    project.edit("  epochs: 2 ", f"  epochs: {EPOCHS} ")
    project.edit("seeds: [0, 1]", "seeds: [0]")
    project.commit("one and longer")
    return project


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of the weights of a training that nothing interrupts."""

    def make(root: Path) -> None:
        one_long_training(root).dvc("repro", "train")

    return shared(tmp_path_factory, "undisturbed", make).hashes(WEIGHTS)[WEIGHTS]


def wait_for_all(group: int) -> None:
    """Wait until no process of a group is left: DVC takes one that is ending for one that works."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            time.sleep(0.01)


def killed(
    project: Project,
    command: list[str],
    line: str,
    after: float,
    by: signal.Signals = signal.SIGKILL,
) -> str:
    """Start a run and kill its whole process group; return what the training had printed.

    Args:
        project: in which to run it.
        command: the engine.
        line: a piece of what the training prints.
        after: seconds after it was printed.
        by: the signal that all get.
    """
    printed = project.root / "logs"
    for path in printed.glob("*"):
        path.unlink()
    printed.mkdir(exist_ok=True)
    with (printed / "all").open("w") as output:
        running = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def said() -> str:
        return "".join(path.read_text() for path in printed.iterdir())

    try:
        deadline = time.monotonic() + 300
        while line not in said():
            assert running.poll() is None, f"it ended before it could be killed: {said()}"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(after)
    finally:
        os.killpg(running.pid, by)
        running.wait()
        wait_for_all(running.pid)
    assert not (project.root / WEIGHTS).exists(), "it was finished before it was killed"
    return said()


def test_training_killed_at_ten_random_points_ends_with_the_same_weights(
    undisturbed: str, tmp_path: Path
) -> None:
    project = one_long_training(tmp_path / "killed")
    moments = random.Random(0)
    went_on_after = []
    for number in range(KILLS):
        engine, line = ENGINES[number // 2 % 2], SAID[number % 2]
        said = killed(project, engine, line, moments.uniform(0, LONGEST_SECONDS))
        assert "warning" not in said  # a kill tears no checkpoint
        went_on_after += [int(epoch) for epoch in re.findall(r"resumes after epoch (\d+)/", said)]
        project.run("snakemake", "--unlock")
    assert went_on_after == sorted(went_on_after)
    assert len(set(went_on_after)) >= KILLS // 2 - 1

    for engine in ENGINES:  # the first ends it, the second finds nothing to do
        project.run(*engine)
        assert project.hashes(WEIGHTS)[WEIGHTS] == undisturbed
    assert "up to date" in project.dvc("status", "train").stdout
    (kept,) = (project.root / ".cache" / "checkpoints").iterdir()
    assert (kept / "finished").exists()
    project.dvc("repro", "evaluate")  # begins when DVC has the training in its cache
    assert not kept.exists()


def test_cancelled_training_leaves_no_claim_of_dvc_behind(undisturbed: str, tmp_path: Path) -> None:
    """As a cluster cancels a job: SIGTERM to all its processes. Other jobs read DVC's claims."""
    project = one_long_training(tmp_path / "cancelled")
    for _ in range(2):
        killed(project, ENGINES[0], ": loss ", 0.1, signal.SIGTERM)
        assert json.loads((project.root / ".dvc/tmp/rwlock").read_text()) == {}
    project.run(*ENGINES[0])
    assert "resumes after epoch" in (project.root / "logs/train_cnn_0.log").read_text()
    assert project.hashes(WEIGHTS)[WEIGHTS] == undisturbed
