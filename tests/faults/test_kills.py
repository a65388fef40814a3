"""SIGKILL and SIGTERM at random moments: the next run is right, and nothing finished is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.storage.running import FINISHED
from tests.faults.record import STOPPED
from tests.faults.stages import ENGINES, EPOCHS, MODEL, STAGES, remains, results, results_of, run
from tests.projects import Project, environment, started, wait_until

KILLS = 6  # of each stage with each signal
KILLS_OF_AN_ENGINE = 8
LONGEST_SECONDS = 15.0  # that an engine runs before it is killed: a run takes several times as long
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def interrupted(command: list[str], root: Path, number: signal.Signals, after: float) -> bool:
    """Signal a command's whole process group so many seconds after its start, if it still runs."""
    running = subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        running.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, number)
        running.wait(timeout=60)
        return True
    return False


def comes_back(project: Project, path: str, sha256: str) -> bool:
    """Tell whether weights that an engine removed, to make them again, need no training for it.

    They are in DVC's cache, or else their checkpoints are there and say that it is finished.
    """
    model, seed = Path(path).parts[2:4]
    checkpoints = project.root / ".cache/checkpoints"
    cached = project.hashes(".dvc/cache/files/md5/*/*").values()
    return sha256 in cached or any(checkpoints.glob(f"{model}-{seed}-*/{FINISHED}"))


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", STAGES)
def test_killed_stage_leaves_its_output_complete_and_is_right_the_next_time(
    name: str,
    number: signal.Signals,
    finished: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    stage, root = STAGES[name], finished.root
    expected = results_of(stage, root)
    assert expected or name == "measure"
    began = time.monotonic()
    assert run(stage.command(), root).returncode == 0
    seconds = time.monotonic() - began

    kills = 0
    while kills < KILLS:
        was_there = kills % 2 == 1 and results_of(stage, root) == expected
        if not was_there:
            for pattern in stage.outputs:
                for path in root.glob(pattern):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        kills += interrupted(stage.command(), root, number, rng.uniform(0, seconds))
        left = results_of(stage, root)
        if was_there:
            assert left == expected  # what was finished stays
        else:
            assert left.items() <= expected.items()  # each file complete or not there
            assert name == "report" or left in ({}, expected)
        assert {path: results(root)[path] for path in right if path not in expected} == {
            path: sha256 for path, sha256 in right.items() if path not in expected
        }

    assert run(stage.command(), root).returncode == 0
    assert results(root) == right
    assert remains(root) == []
    see(number.name, f"stage `{name}`, alone", STOPPED, STOPPED, kills)


@pytest.mark.parametrize("engine", ENGINES)
def test_killed_engine_resumes_and_no_finished_training_is_lost(
    engine: str,
    begun: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    command = ENGINES[engine]
    kept: set[str] = set()
    kills = dict.fromkeys(SIGNALS, 0)
    for attempt in range(KILLS_OF_AN_ENGINE):
        number = SIGNALS[attempt % 2]
        kills[number] += interrupted(command, begun.root, number, rng.uniform(0, LONGEST_SECONDS))
        begun.run("snakemake", "--unlock")  # this quarantines corrupt lock files of DVC
        there = results(begun.root)
        assert all(comes_back(begun, path, right[path]) for path in kept - there.keys())
        assert there.items() <= right.items()
        kept |= {path for path in there if path.endswith(".safetensors")}
    assert run(command, begun.root).returncode == 0
    assert results(begun.root) == right
    assert begun.is_clean()
    assert remains(begun.root) == []
    for number, times in kills.items():
        see(number.name, f"all of `{engine}`, then `snakemake --unlock`", STOPPED, STOPPED, times)


def test_training_that_the_kernel_kills_is_told_so_and_resumes(
    begun: Project, right: dict[str, str], see: Callable[..., None], tmp_path: Path
) -> None:
    """As it does where memory runs out: its process alone, and neither DVC nor Snakemake."""
    log, printed = begun.root / "logs" / f"train_{MODEL}_0.log", tmp_path / "printed"
    with started(begun, ENGINES["snakemake"], printed) as running:
        wait_until(lambda: log.exists() and ": loss " in log.read_text(), 300, running=running)
        trainings = [
            process
            for process in psutil.Process(running.pid).children(recursive=True)
            if process.cmdline()[-2:] == ["stage", f"train@{MODEL}-0"]
        ]
        trainings[-1].kill()
        assert running.wait(600) == 1
    reason = "killed by signal 9 (SIGKILL): out of memory?"
    assert f"failed: {reason}" in printed.read_text()
    assert log.read_text().splitlines()[-1] == reason
    assert run(ENGINES["snakemake"], begun.root).returncode == 0
    assert results(begun.root) == right
    see("SIGKILL", "a training's process alone, under `snakemake`", STOPPED, STOPPED)


@pytest.mark.parametrize("engine", ENGINES)
def test_training_finished_but_not_noted_by_dvc_is_not_trained_again(
    engine: str, begun: Project, right: dict[str, str], see: Callable[..., None]
) -> None:
    begun.dvc("repro", "split")
    # what DVC runs, and no DVC that notes it: as a kill of DVC leaves it
    begun.run(sys.executable, "-m", "pipeline", "stage", f"train@{MODEL}-0")
    target = {"snakemake": STAGES["train"].out, "dvc repro": f"train@{MODEL}-0"}[engine]
    done = run([*ENGINES[engine], target], begun.root)
    assert done.returncode == 0
    logs = "".join(path.read_text() for path in begun.root.glob("logs/train*"))
    assert f"resumes after epoch {EPOCHS}/{EPOCHS}" in done.stderr + logs
    assert results(begun.root).items() <= right.items()
    assert f"{STAGES['train'].out}/model.safetensors" in results(begun.root)
    see("SIGKILL", f"after a training, before DVC noted it, then `{engine}`", STOPPED, STOPPED)
