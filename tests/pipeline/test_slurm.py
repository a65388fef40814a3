"""The pipeline on a cluster: a real Slurm, Snakemake's own way to it, and profiles/slurm."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

import pytest

from tests.pipeline import slurm
from tests.projects import Project, checkout, shared, started, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs(*slurm.NEEDS)]

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


def printed_file(project: Project) -> Path:
    return project.root / ".cache" / "snakemake.log"


def start(project: Project, command: tuple[str, ...]) -> AbstractContextManager[Popen[str]]:
    """Run Snakemake; what it prints goes to .cache/snakemake.log."""
    return started(project, command, printed_file(project))


def wait_for_epoch(project: Project, rule: str, running: Popen[str]) -> None:
    wait_until(
        lambda: re.search(r"epoch [3-9]/", log_of(project, rule)) is not None,
        200,
        printed_file(project).read_text,
        running,
    )


def run_and_cancel(root: Path) -> None:
    """Run all, with one training cancelled half way; Slurm's record goes to .cache/jobs."""
    project = checkout(root)
    keep(project, "cnn", "ca_cnn")
    with slurm.cluster(), start(project, IMPATIENT) as running:
        wait_for_epoch(project, CANCELLED, running)
        slurm.cancel(slurm.queue()[CANCELLED])
        running.wait(timeout=400)
        (project.root / ".cache" / "jobs").write_text(slurm.records())
    printed = printed_file(project).read_text()
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
    stage_jobs = [job for rule, tries in jobs.items() if rule.startswith(stage) for job in tries]
    assert stage_jobs
    for job in stage_jobs:
        assert re.fullmatch(r"gres.gpu:1", job["TresPerJob"])
        assert job["MinMemoryNode"] == "4000M"
        assert job["TimeLimit"] == time_limit
        assert job["NumCPUs"] == "1"  # evaluate, too, which alone on one machine takes all of them


def test_cancelled_training_is_started_again_and_resumes_from_its_checkpoint(
    on_slurm: Project, jobs: dict[str, list[dict[str, str]]]
) -> None:
    assert [job["JobState"] for job in jobs[CANCELLED]] == ["CANCELLED", "COMPLETED"]
    others = [job["JobState"] for rule, tries in jobs.items() if rule != CANCELLED for job in tries]
    assert others == ["COMPLETED"] * (len(SUBMITTED) - 1)
    resumed = re.search(r"resumes after epoch (\d+)/", log_of(on_slurm, CANCELLED))
    assert resumed is not None
    assert int(resumed.group(1)) >= 2
    assert "resumes" not in log_of(on_slurm, "train_ca_cnn_0")


def test_after_a_run_on_the_cluster_dvc_is_clean_and_nothing_is_planned(on_slurm: Project) -> None:
    assert on_slurm.is_clean()
    assert on_slurm.plans_nothing()
    assert not list((on_slurm.root / ".cache" / "checkpoints").iterdir())


def test_interrupted_run_leaves_no_job_and_a_failing_stage_is_reported_on_one_line(
    tmp_path: Path,
) -> None:
    project = checkout(tmp_path / "fails")
    keep(project, "cnn")
    with slurm.cluster():
        with start(project, PATIENT) as running:
            wait_for_epoch(project, "train_cnn_0", running)
            running.send_signal(signal.SIGINT)
            running.wait(timeout=120)  # it pauses up to 40 s between two questions
            slurm.wait_until_empty()

        (project.root / "own.py").write_text(NOT_A_NUMBER)
        project.train_depends_on("own.py")
        project.edit("  loss: cross_entropy ", "  loss: own.loss ")
        with start(project, IMPATIENT) as running:
            running.wait(timeout=400)
        record = slurm.jobs_of(slurm.records())
    assert running.returncode == 1
    assert [job["JobState"] for job in record["train_cnn_0"]] == ["CANCELLED", "FAILED", "FAILED"]
    printed = printed_file(project).read_text()
    (line,) = re.findall(r"^train@cnn-0 .*", printed, re.MULTILINE)
    assert "the loss is no longer a number" in line
    assert "logs/train_cnn_0.log" in line


def test_lock_that_a_killed_job_left_is_reported_with_what_to_do(tmp_path: Path) -> None:
    project = checkout(tmp_path / "locked")
    held = {str(project.root / "data" / "raw"): {"pid": os.getpid(), "cmd": "dvc on another node"}}
    lock = project.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"write": held, "read": {}}))
    done = project.snakemake("download", cores=1, expect=1)
    assert "is busy, it is being blocked by" in log_of(project, "download")
    assert f"remove '{lock}' and try again" in done.stderr
