"""Two commands at once that want the same outputs."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.record import REPORTED, UNHARMED
from tests.faults.stages import STAGES, remains, results, run
from tests.projects import Project, environment

SNAKEMAKE, DVC = ["snakemake", "--cores", "1"], ["dvc", "repro"]
LONGEST_SECONDS = 15.0
ALLOWED = f"{UNHARMED}, or {REPORTED}"


def start(command: list[str], root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [(SNAKEMAKE, SNAKEMAKE), (SNAKEMAKE, DVC), (DVC, SNAKEMAKE)],
    ids=lambda command: command[0],
)
def test_two_engines_at_once_end_right(
    first: list[str],
    second: list[str],
    begun: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    running = [start(first, begun.root)]
    time.sleep(rng.uniform(1, LONGEST_SECONDS))
    running.append(start(second, begun.root))
    said = [process.communicate(timeout=1800)[0] for process in running]
    for process, text in zip(running, said, strict=True):
        assert "Traceback" not in text
        if process.returncode:
            assert "lock" in text or "busy" in text, text
    for command in (first, second):
        again = run(command, begun.root)
        assert again.returncode == 0, again.stdout + again.stderr
        assert results(begun.root) == right
    assert begun.is_clean()
    outcome = REPORTED if any(process.returncode for process in running) else UNHARMED
    see("two engines at once", f"`{first[0]}`, then `{second[0]}`", ALLOWED, outcome)


@pytest.mark.parametrize("name", STAGES)
def test_same_stage_twice_at_once_ends_right(
    name: str, finished: Project, right: dict[str, str], see: Callable[..., None]
) -> None:
    running = [start(STAGES[name].command(), finished.root) for _ in range(3)]
    said = [process.communicate(timeout=1800)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert results(finished.root) == right
    assert remains(finished.root) == []
    see("the same stage three times at once", f"stage `{name}`, alone", UNHARMED, UNHARMED)
