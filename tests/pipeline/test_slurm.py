"""The pipeline on a cluster: a real Slurm, Snakemake's own way to it, and profiles/slurm."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pipeline import slurm
from tests.pipeline.conftest import Project, checkout, environment, shared

pytestmark = pytest.mark.slow

# Without a database only squeue knows of finished jobs.
OPTIONS = (
    "--profile", "profiles/slurm", "--slurm-status-command", "squeue", "--latency-wait", "5",
)  # fmt: skip
PATIENT = ("snakemake", *OPTIONS)
# The same, but that it asks Slurm for news every second: on a cluster that would be rude, and here
# the ever longer pauses between two questions would be most of the time.
ASKS_EVERY_SECOND = """
import asyncio
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

async def sleep(executor):
    await asyncio.sleep(1)

RemoteExecutor.sleep = sleep
main()
"""
IMPATIENT = (sys.executable, "-c", ASKS_EVERY_SECOND, *OPTIONS)
SUBMITTED = {f"{stage}_{model}_0" for stage in ("train", "evaluate") for model in ("cnn", "ca_cnn")}
SUBMITTED |= {"explain_cnn", "explain_ca_cnn", "measure"}
CANCELLED = "train_cnn_0"
EPOCHS = 40  # seconds, so that there is something to cancel
NOT_A_NUMBER = """
from torch.nn.functional import cross_entropy

def loss(logits, targets):
    return cross_entropy(logits, targets) * float("nan")
"""


def keep(project: Project, *architectures: str) -> None:
    """Leave two architectures or the first, one seed, and let them train for a while."""
    path = project.root / "params.yaml"
    text = path.read_text()
    first = text.index("  densenet: &densenet" if len(architectures) == 2 else "  ca_cnn:\n")
    path.write_text(text[:first] + text[text.index("\ndata:\n") :])
    project.edit("  epochs: 2 ", f"  epochs: {EPOCHS} ")
    project.edit("seeds: [0, 1]", "seeds: [0]")
    project.edit("model: ca_cnn", f"model: {architectures[-1]}")
    project.commit("fewer and longer")


def log_of(project: Project, rule: str) -> str:
    path = project.root / "logs" / f"{rule}.log"
    return path.read_text() if path.exists() else ""


def hear_interruptions() -> None:
    """Undo what a shell does to commands in the background, should these tests run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(project: Project, command: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Run Snakemake; what it prints goes to .cache/snakemake.log."""
    printed = project.root / ".cache" / "snakemake.log"
    printed.parent.mkdir(exist_ok=True)
    with printed.open("w") as output:
        running = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment(),
            stdout=output,
            stderr=output,
            text=True,
            preexec_fn=hear_interruptions,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()


def wait_for_epoch(project: Project, rule: str, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not re.search(r"epoch [3-9]/", log_of(project, rule)):
        assert running.poll() is None, (project.root / ".cache/snakemake.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_and_cancel(root: Path) -> None:
    """Run all, with one training cancelled half way; Slurm's record goes to .cache/jobs."""
    project = checkout(root)
    keep(project, "cnn", "ca_cnn")
    with slurm.cluster(), started(project, IMPATIENT) as running:
        wait_for_epoch(project, CANCELLED, running)
        slurm.cancel(slurm.queue()[CANCELLED])
        running.wait(timeout=400)
        (project.root / ".cache" / "jobs").write_text(slurm.records())
    printed = (project.root / ".cache" / "snakemake.log").read_text()
    assert running.returncode == 0, printed


@pytest.fixture(scope="session")
def on_slurm(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two architectures as the documented command leaves them; not to be changed."""
    return shared(tmp_path_factory, "on_slurm", run_and_cancel)


@pytest.fixture
def jobs(on_slurm: Project) -> dict[str, list[dict[str, str]]]:
    return slurm.jobs_of((on_slurm.root / ".cache" / "jobs").read_text())


def test_training_evaluation_and_explanation_are_jobs_and_light_stages_are_not(
    on_slurm: Project, jobs: dict[str, list[dict[str, str]]]
) -> None:
    assert set(jobs) == SUBMITTED
    assert on_slurm.ran() == SUBMITTED | {"download", "split", "report"}


@pytest.mark.parametrize(
    ("stage", "time_limit"),
    [("train", "12:00:00"), ("evaluate", "01:00:00"), ("explain", "01:00:00")],
)
def test_job_asks_for_the_gpu_memory_and_time_of_its_stage(
    stage: str, time_limit: str, jobs: dict[str, list[dict[str, str]]]
) -> None:
    of_stage = [job for rule, tries in jobs.items() if rule.startswith(stage) for job in tries]
    assert of_stage
    for job in of_stage:
        assert re.fullmatch(r"gres.gpu:1", job["TresPerJob"])
        assert job["MinMemoryNode"] == "4000M"
        assert job["TimeLimit"] == time_limit
        assert job["NumCPUs"] == "1"  # evaluate, too, which alone on one machine takes all of them


def test_cancelled_training_is_started_once_more_and_goes_on_from_its_checkpoint(
    on_slurm: Project, jobs: dict[str, list[dict[str, str]]]
) -> None:
    assert [job["JobState"] for job in jobs[CANCELLED]] == ["CANCELLED", "COMPLETED"]
    others = [job["JobState"] for rule, tries in jobs.items() if rule != CANCELLED for job in tries]
    assert others == ["COMPLETED"] * (len(SUBMITTED) - 1)
    went_on = re.search(r"resumes after epoch (\d+)/", log_of(on_slurm, CANCELLED))
    assert went_on is not None
    assert int(went_on.group(1)) >= 2
    assert "resumes" not in log_of(on_slurm, "train_ca_cnn_0")


def test_after_a_run_on_the_cluster_dvc_is_clean_and_nothing_is_planned(on_slurm: Project) -> None:
    assert on_slurm.is_clean()
    assert on_slurm.plans_nothing()
    assert not list((on_slurm.root / ".cache" / "checkpoints").iterdir())


def test_interrupted_run_leaves_no_job_and_a_failing_stage_is_told_in_one_line(
    tmp_path: Path,
) -> None:
    project = checkout(tmp_path / "fails")
    keep(project, "cnn")
    with slurm.cluster():
        with started(project, PATIENT) as running:
            wait_for_epoch(project, "train_cnn_0", running)
            running.send_signal(signal.SIGINT)
            running.wait(timeout=120)  # it pauses up to 40 s between two questions
            slurm.wait_until_empty()

        (project.root / "own.py").write_text(NOT_A_NUMBER)
        project.edit("  loss: cross_entropy ", "  loss: own.loss ")
        with started(project, IMPATIENT) as running:
            running.wait(timeout=400)
        record = slurm.jobs_of(slurm.records())
    assert running.returncode == 1
    assert [job["JobState"] for job in record["train_cnn_0"]] == ["CANCELLED", "FAILED", "FAILED"]
    printed = (project.root / ".cache" / "snakemake.log").read_text()
    (told,) = re.findall(r"^train@cnn-0 .*", printed, re.MULTILINE)
    assert "the loss is no longer a number" in told
    assert "logs/train_cnn_0.log" in told


def test_lock_that_a_killed_job_left_is_told_with_what_to_do(tmp_path: Path) -> None:
    project = checkout(tmp_path / "locked")
    held = {str(project.root / "data" / "raw"): {"pid": os.getpid(), "cmd": "dvc on another node"}}
    lock = project.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"write": held, "read": {}}))
    done = project.snakemake("download", cores=1, expect=1)
    assert "is busy, it is being blocked by" in log_of(project, "download")
    assert f"remove '{lock}' and try again" in done.stdout
