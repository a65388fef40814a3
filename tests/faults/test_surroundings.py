"""Clocks, names, locales, a home that can't be written, no git, and losses that are no numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Disk, small
from tests.faults.record import REPORTED, UNHARMED
from tests.faults.stages import MODEL, STAGES, error_line, results, run
from tests.projects import Project

SNAKEMAKE, DVC = ["snakemake", "--cores", "2"], ["dvc", "repro"]
DAY = 86_400
JUMPING_CLOCK = '''
import random, time

wall, wall_ns, steady = time.time, time.time_ns, time.monotonic


def jump():
    """Seconds by which the clock is wrong: another number every half second, up to two days."""
    return random.Random(int(steady() * 2)).uniform(-172_800, 172_800)


time.time = lambda: wall() + jump()
time.time_ns = lambda: wall_ns() + int(jump() * 1e9)
'''


def test_path_of_spaces_quotes_and_other_letters(
    tmp_path: Path, right: dict[str, str], see: Callable[..., None]
) -> None:
    project = small(tmp_path / 'it\'s a "näive" Straße, 数据 $HOME')
    (project.root / ".venv").symlink_to(sys.prefix)
    project.run("make", "--old-file", "setup", "CORES=2")
    assert results(project.root) == right
    assert project.is_clean()
    project.edit("  margin: 0.5 ", "  margin: 0.6 ")
    project.dvc("repro")
    assert project.is_clean()
    see("path of spaces, quotes and other letters", "`make`, `dvc repro`", UNHARMED, UNHARMED)


def turkish(folder: Path) -> dict[str, str]:
    """Make the Turkish locale, in which the small letter of I has no dot, and choose it."""
    folder.mkdir()
    made = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
    done = subprocess.run(made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}: apt-get install locales"
    chosen = {"LOCPATH": str(folder), "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}
    ask = [sys.executable, "-c", "import locale; print(locale.setlocale(locale.LC_ALL, ''))"]
    assert run(ask, folder, **chosen).stdout == "tr_TR.UTF-8\n"
    return chosen


@pytest.mark.parametrize(
    ("language", "command"), [("C", SNAKEMAKE), ("tr_TR.UTF-8", DVC)], ids=["C", "tr_TR.UTF-8"]
)
def test_language_changes_no_result(
    language: str,
    command: list[str],
    begun: Project,
    right: dict[str, str],
    tmp_path: Path,
    see: Callable[..., None],
) -> None:
    chosen = {"LANG": "C", "LC_ALL": "C"} if language == "C" else turkish(tmp_path / "locales")
    done = run(command, begun.root, **chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(begun.root) == right
    see(f"`LANG={language}`", f"`{command[0]}`", UNHARMED, UNHARMED)


def test_home_that_cannot_be_written_is_not_needed(
    begun: Project,
    right: dict[str, str],
    disk: Callable[[int], Disk],
    see: Callable[..., None],
) -> None:
    home = disk(1 << 20)
    home.read_only()
    unset = dict.fromkeys(("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), "")
    done = run(SNAKEMAKE, begun.root, HOME=str(home.root), **unset)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(begun.root) == right
    see("read-only `HOME`", "`snakemake`", UNHARMED, UNHARMED)
    begun.edit("  margin: 0.5 ", "  margin: 0.6 ")
    done = run(DVC, begun.root, HOME=str(home.root), **unset)
    assert done.returncode == 0, done.stdout + done.stderr
    see("read-only `HOME`", "`dvc`", UNHARMED, UNHARMED)


def test_folder_without_git_is_reported_and_the_next_run_is_right(
    begun: Project, right: dict[str, str], see: Callable[..., None]
) -> None:
    shutil.rmtree(begun.root / ".git")
    for command in (SNAKEMAKE, DVC):
        done = run(command, begun.root)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "is not a git repository" in done.stderr
        see("no git repository", f"`{command[0]}`", REPORTED, REPORTED)
    begun.run("git", "init", "--quiet")
    begun.snakemake("data/splits", cores=2)
    assert begun.hashes("data/splits/*").items() <= right.items()


def test_clock_that_jumps_while_a_run_goes_on(
    begun: Project, right: dict[str, str], tmp_path: Path, see: Callable[..., None]
) -> None:
    (tmp_path / "jumping").mkdir()
    (tmp_path / "jumping" / "sitecustomize.py").write_text(JUMPING_CLOCK)
    done = run(SNAKEMAKE, begun.root, PYTHONPATH=str(tmp_path / "jumping"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(begun.root) == right
    assert begun.is_clean()
    see("clock that jumps", "`snakemake` from its start", UNHARMED, UNHARMED)


def date_outputs(project: Project, days: int) -> None:
    """Leave the times that a clock leaves that was wrong in an earlier run."""
    moment = max(0, time.time() + days * DAY)
    for folder in ("data", "reports", ".snakemake", ".cache"):
        for path in (project.root / folder).rglob("*"):
            os.utime(path, (moment, moment))


@pytest.mark.parametrize("days", [-20_000, -1, 1, 20_000])
def test_change_is_seen_whatever_the_times_of_the_outputs(
    days: int, finished: Project, right: dict[str, str], see: Callable[..., None]
) -> None:
    date_outputs(finished, days)
    source = finished.root / "pipeline" / "figures" / "accuracy.py"
    source.write_text(source.read_text() + "\n# drawn better\n")
    finished.snakemake(cores=2)
    assert finished.ran() == {"report"}
    assert finished.is_clean()
    assert results(finished.root) == right
    see("clock that was wrong", f"outputs dated {days:+,} days", UNHARMED, UNHARMED)


def test_interrupted_change_is_completed_though_outputs_are_of_the_future(
    finished: Project, right: dict[str, str], see: Callable[..., None]
) -> None:
    date_outputs(finished, 1)
    finished.edit("  max_per_class: 30 ", "  max_per_class: 25 ")
    finished.snakemake("data/splits", cores=2)  # and no further, as if it were interrupted
    finished.snakemake(cores=2)
    assert finished.is_clean()
    assert set(results(finished.root).items()).isdisjoint(
        (path, sha256) for path, sha256 in right.items() if path.endswith(".safetensors")
    )
    see("clock that was wrong", "outputs dated +1 days, run interrupted", UNHARMED, UNHARMED)


def test_loss_that_becomes_nan_is_reported_and_the_next_run_is_right(
    begun: Project, right: dict[str, str], see: Callable[..., None]
) -> None:
    settings = (begun.root / "params.yaml").read_text()
    begun.edit("  learning_rate: 0.001 ", "  learning_rate: 1000000.0 ")
    begun.edit("  weight_decay: 0.0 ", "  weight_decay: 1000000.0 ")
    begun.edit("  optimizer: adam ", "  optimizer: sgd ")
    done = run(SNAKEMAKE, begun.root)
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if " failed: error: " in line]
    assert len(failed) == 2
    assert all("the loss is no longer a number" in line for line in failed)
    assert all("lower train.learning_rate in params.yaml" in line for line in failed)
    message = error_line(run(STAGES["train"].command(), begun.root))
    assert "lower train.learning_rate in params.yaml" in message
    see("loss that becomes NaN", "`snakemake`", REPORTED, REPORTED, len(failed))
    see("loss that becomes NaN", "stage `train`, alone", REPORTED, REPORTED)

    (begun.root / "params.yaml").write_text(settings)
    begun.snakemake("data/trained/cnn/0", f"data/trained/{MODEL}/0", cores=2)
    found = results(begun.root)
    assert len([path for path in found if path.endswith(".safetensors")]) == 2
    assert found.items() <= right.items()


@pytest.mark.parametrize(
    ("engine", "first"), [(SNAKEMAKE, "data/raw"), (DVC, "download")], ids=["snakemake", "dvc"]
)
def test_dangling_link_among_the_images_is_named(
    engine: list[str], first: str, begun: Project, see: Callable[..., None]
) -> None:
    link = begun.root / "data" / "local" / "gone.png"
    link.symlink_to("nowhere")
    done = run(engine, begun.root)
    assert done.returncode != 0
    assert "gone.png" in done.stderr
    assert "Traceback" not in done.stderr
    link.unlink()
    assert run([*engine, first], begun.root).returncode == 0
    see("dangling link in `data.path`", f"`{engine[0]}`", REPORTED, REPORTED)
