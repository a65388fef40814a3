"""SIGKILL of everything, again and again: the next command resumes, to the same weights."""

from __future__ import annotations

import json
import random
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.docs.conftest import make_environment
from tests.projects import Project, checkout, killed, shared, started, wait_until

pytestmark = pytest.mark.slow

KILLS = 10
LONGEST_SECONDS = 0.5
# From which line of the training's on the random time runs, in turn: its first, when little or
# nothing of an epoch is done yet, and that of the first epoch, so that every other gets somewhere.
SAID = ("training and", ": loss ")
EPOCHS = 150  # takes several times as long, so that the last kill still interrupts something
TRAINED = "data/trained/cnn/0"
WEIGHTS = f"{TRAINED}/model.safetensors"
# They take turns: what one engine began, the other resumes.
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


def interrupt(
    project: Project,
    command: list[str],
    line: str,
    after: float,
    by: signal.Signals = signal.SIGKILL,
) -> str:
    """Kill a run that has printed a line, some seconds later; return what it had printed."""
    said = killed(project, command, lambda printed: line in printed, after, by)
    assert not (project.root / WEIGHTS).exists(), "it was finished before it was killed"
    return said


def test_training_killed_at_ten_random_points_ends_with_the_same_weights(
    undisturbed: str, tmp_path: Path
) -> None:
    project = one_long_training(tmp_path / "killed")
    moments = random.Random(0)
    resumed_after = []
    for number in range(KILLS):
        engine, line = ENGINES[number // 2 % 2], SAID[number % 2]
        said = interrupt(project, engine, line, moments.uniform(0, LONGEST_SECONDS))
        assert "warning" not in said  # a kill tears no checkpoint
        resumed_after += [int(epoch) for epoch in re.findall(r"resumes after epoch (\d+)/", said)]
        project.run("snakemake", "--unlock")
    assert resumed_after == sorted(resumed_after)
    assert len(set(resumed_after)) >= KILLS // 2 - 1

    for engine in ENGINES:  # the first ends it, the second finds nothing to do
        project.run(*engine)
        assert project.hashes(WEIGHTS)[WEIGHTS] == undisturbed
    assert "up to date" in project.dvc("status", "train").stdout
    (kept,) = (project.root / ".cache" / "checkpoints").iterdir()
    assert (kept / "finished").exists()
    project.snakemake()  # evaluation begins when DVC has the training in its cache
    assert not kept.exists()
    assert (project.root / "reports" / "report.html").exists()
    assert project.is_clean()


def test_cancelled_training_leaves_no_claim_of_dvc_behind(undisturbed: str, tmp_path: Path) -> None:
    """As a cluster cancels a job: SIGTERM to all its processes. Other jobs read DVC's claims."""
    project = one_long_training(tmp_path / "cancelled")
    for _ in range(2):
        interrupt(project, ENGINES[0], ": loss ", 0.1, signal.SIGTERM)
        assert json.loads((project.root / ".dvc/tmp/rwlock").read_text()) == {}
    project.run(*ENGINES[0])
    assert "resumes after epoch" in (project.root / "logs/train_cnn_0.log").read_text()
    assert project.hashes(WEIGHTS)[WEIGHTS] == undisturbed


@pytest.mark.parametrize("command", ["snakemake", "make"])
def test_training_that_a_killed_snakemake_left_is_waited_for_by_name(
    undisturbed: str, tmp_path: Path, command: str
) -> None:
    project = one_long_training(tmp_path / "orphan")
    make_environment(project.root)
    log = project.root / "logs" / "train_cnn_0.log"
    with started(project, ENGINES[0], tmp_path / "first") as first:
        wait_until(lambda: log.exists() and ": loss " in log.read_text(), 300, running=first)
        first.send_signal(signal.SIGKILL)
        first.wait()
        (claim,) = json.loads((project.root / ".dvc/tmp/rwlock").read_text())["write"].values()
        (training,) = psutil.Process(claim["pid"]).children()
        training.suspend()  # where others have the machine it would end before these have begun
        locked = project.snakemake(expect=1).stderr
        assert f"train@cnn-0 is run by process {training.pid}, of an earlier" in locked
        project.run("snakemake", "--unlock")
        target = {"snakemake": ENGINES[0], "make": ["make", "CORES=1"]}[command]
        with started(project, target, tmp_path / "second") as second:
            printed = (tmp_path / "second").read_text
            wait_until(lambda: "waits for" in printed(), 300, printed, second)
            assert "waits for dvc.yaml:train@cnn-0 " in printed()
            assert f"(kill {training.pid} ends it)" in printed()
            assert not (project.root / "data" / "measured").exists()  # nor beside a training
            training.resume()
            if command == "make":
                training.terminate()
            assert second.wait(600) == 0, printed()
    assert "busy" not in printed()
    assert "error" not in printed().lower()
    assert project.hashes(WEIGHTS)[WEIGHTS] == undisturbed
    assert "up to date" in project.dvc("status", "train").stdout
