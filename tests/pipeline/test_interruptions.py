"""SIGKILL of everything, again and again: the next command goes on, to the same weights."""

from __future__ import annotations

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
WEIGHTS = "data/trained/cnn/0/model.safetensors"
COMMANDS = {
    "snakemake": [["snakemake", "--unlock"], ["snakemake", "--cores", "1"]],
    "dvc": [["dvc", "repro"]],
}


def one_long_training(project: Project) -> None:
    """Leave one architecture and one seed, and let it train for long."""
    path = project.root / "params.yaml"
    text = path.read_text()
    first, last = text.index("  ca_cnn:\n"), text.index("\ndata:\n")
    path.write_text(text[:first] + text[last:])
    project.edit("model: ca_cnn", "model: cnn")
    project.edit("  epochs: 2 ", f"  epochs: {EPOCHS} ")
    project.edit("seeds: [0, 1]", "seeds: [0]")
    project.commit("one and longer")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of the weights of a training that nothing interrupts."""

    def run(project: Project) -> subprocess.CompletedProcess[str]:
        one_long_training(project)
        return project.dvc("repro", "train")

    return shared(tmp_path_factory, "undisturbed", run).hashes(WEIGHTS)[WEIGHTS]


def killed(project: Project, command: list[str], line: str, after: float) -> str:
    """Start a run and SIGKILL its whole process group; return what the training had printed.

    Args:
        project: in which to run it.
        command: the engine.
        line: a piece of what the training prints.
        after: seconds after it was printed.
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
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not (project.root / WEIGHTS).exists(), "it was finished before it was killed"
    return said()


@pytest.mark.parametrize("engine", COMMANDS)
def test_training_killed_at_ten_random_points_ends_with_the_same_weights(
    engine: str, undisturbed: str, tmp_path: Path
) -> None:
    project = checkout(tmp_path / engine)
    one_long_training(project)
    *before, command = COMMANDS[engine]
    moments = random.Random(engine)
    went_on_after = []
    for number in range(KILLS):
        line, after = SAID[number % 2], moments.uniform(0, LONGEST_SECONDS)
        said = killed(project, command, line, after)
        assert "warning" not in said  # a kill tears no checkpoint
        went_on_after += [int(epoch) for epoch in re.findall(r"goes on after epoch (\d+)/", said)]
        for documented in before:
            project.run(*documented)
    assert went_on_after == sorted(went_on_after)
    assert len(set(went_on_after)) >= KILLS // 2 - 1

    project.run(*command)
    assert project.hashes(WEIGHTS)[WEIGHTS] == undisturbed
    assert project.is_clean()
    assert not list((project.root / ".cache" / "checkpoints").iterdir())
