"""A hundred trainings: all end, none waits in vain for a lock, on one machine and under Slurm."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hundred import record
from tests.pipeline import slurm
from tests.pipeline.test_slurm import IMPATIENT, start
from tests.projects import Project, checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

MODELS = ("cnn", "ca_cnn", "densenet", "se_densenet")
SEEDS = range(25)
RUN_JOBS = {f"{stage}_{m}_{s}" for stage in ("train", "evaluate") for m in MODELS for s in SEEDS}
JOBS = RUN_JOBS | {f"explain_{model}" for model in MODELS} | {"measure"}
ALL = JOBS | {"download", "split", "report"}

ON_ONE_MACHINE = ("snakemake", "--cores", "16")
# the logs of jobs that went well, too, might tell of a lock
ON_SLURM = (*IMPATIENT, "--slurm-keep-successful-logs")
# DVC's, Snakemake's and SQLite's words; DVC's state of files is an SQLite database
LOCK_ERROR = re.compile(
    r"unable to acquire|is busy, it is being blocked|cannot be locked|LockException|"
    r"database is locked|OperationalError",
    re.IGNORECASE,
)
RETRY = re.compile(r"trying to restart|failed|error in rule", re.IGNORECASE)
PRINTED = (".cache/snakemake.log", "logs/*.log", ".snakemake/**/*.log")
SECONDS_BETWEEN_NEWS = 30


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = checkout(tmp_path / "hundred")
    project.edit("seeds: [0, 1]", f"seeds: {list(SEEDS)}")
    project.commit("a hundred trainings")
    return project


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print at once, whatever pytest captures."""

    def now(line: str) -> None:
        with capsys.disabled():
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    return now


def results(project: Project, pattern: str) -> int:
    return len(list((project.root / "data").glob(pattern)))


def run(project: Project, command: tuple[str, ...], tell: Callable[[str], None]) -> float:
    """Run a command to its end, with news of it; return its seconds."""
    tell(f"{' '.join(map(str, command[-6:]))} in {project.root}")
    began = time.perf_counter()
    with start(project, command) as running:
        while running.poll() is None:
            try:
                running.wait(SECONDS_BETWEEN_NEWS)
            except subprocess.TimeoutExpired:
                trained = results(project, "trained/*/*/model.safetensors")
                evaluated = results(project, "evaluated/*/*/metrics.json")
                tell(f"{trained} of {len(RUN_JOBS) // 2} trained, {evaluated} evaluated")
    printed = (project.root / ".cache" / "snakemake.log").read_text()
    assert running.returncode == 0, printed
    return time.perf_counter() - began


def found(project: Project, words: re.Pattern[str]) -> list[str]:
    """The lines, in all that was printed or logged, that have the words."""
    paths = [path for pattern in PRINTED for path in project.root.glob(pattern)]
    lines = [(path, line) for path in paths for line in path.read_text().splitlines()]
    return [f"{path}: {line}" for path, line in lines if words.search(line)]


def assert_complete(project: Project) -> None:
    assert project.ran() == ALL
    assert results(project, "trained/*/*/model.safetensors") == len(MODELS) * len(SEEDS) == 100
    assert results(project, "evaluated/*/*/metrics.json") == 100
    assert found(project, LOCK_ERROR) == []
    assert found(project, RETRY) == []
    assert project.is_clean()
    assert project.plans_nothing()


def outcome(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"    {minutes} min {seconds} s by the clock; 100 trainings, 100 evaluations\n"
        "    retries: 0, lock errors: 0; afterwards `dvc status` is clean, "
        "`snakemake -n` plans nothing"
    )


def test_hundred_trainings_on_sixteen_cores(project: Project, tell: Callable[[str], None]) -> None:
    where = record.surroundings()
    seconds = run(project, ON_ONE_MACHINE, tell)
    assert_complete(project)
    stages = record.table(record.stage_seconds(project.root / "benchmarks"), "stage")
    record.write("`snakemake --cores 16`", f"{where}\n{outcome(seconds)}\n\n{stages}")


@pytest.mark.needs(*slurm.NEEDS)
def test_hundred_trainings_as_jobs_of_slurm(project: Project, tell: Callable[[str], None]) -> None:
    where = record.surroundings()
    with slurm.cluster():
        seconds = run(project, ON_SLURM, tell)
        jobs, version = slurm.jobs_of(slurm.records()), slurm.version()
    assert {rule: [job["JobState"] for job in tries] for rule, tries in jobs.items()} == {
        rule: ["COMPLETED"] for rule in JOBS
    }
    assert {job["Restarts"] for tries in jobs.values() for job in tries} == {"0"}
    assert_complete(project)
    stages = record.table(record.stage_seconds(project.root / "benchmarks"), "stage")
    complete = record.table(record.job_seconds(jobs), "job, with the way to it")
    record.write(
        f"`snakemake --profile profiles/slurm`, {version}, {len(slurm.GPUS)} jobs at a time",
        f"{where}\n{outcome(seconds)}\n\n{stages}\n\n{complete}",
    )
