"""The log of a job ends with how its stage ended, with the real DVC, disks and signals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.faults.conftest import Disk, disk

__all__ = ["disk"]  # the fixture
ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a project"
    root.mkdir()
    Repo.init(str(root), no_scm=True)
    return root


def write_stage(root: Path, command: str, deps: str = "[]") -> None:
    """Write a dvc.yaml of one stage, whose command is a line of the shell."""
    (root / "dvc.yaml").write_text(
        f"stages:\n  train:\n    cmd: |-\n      {command}\n    deps: {deps}\n    outs: [out]\n"
    )


def start(root: Path) -> subprocess.Popen[str]:
    """Start the job of the stage; its log is `log`."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.engines.run_stage", "dvc.yaml:train", "log"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def job(root: Path) -> tuple[int, str]:
    """Run the job; return its exit code and the last line of its log."""
    running = start(root)
    assert running.communicate(timeout=60) == ("", "")
    lines = (root / "log").read_text().splitlines()
    return running.returncode, lines[-1] if lines else ""


def test_stage_that_ran_is_told_by_its_last_line_and_then_up_to_date(project: Path) -> None:
    write_stage(project, "echo one; echo 'best epoch 2' >&2; touch out")
    assert job(project) == (0, "best epoch 2")
    assert (project / "log").read_text() == "one\nbest epoch 2\n"
    assert job(project) == (0, "")


def test_error_of_a_stage_is_its_reason(project: Path) -> None:
    write_stage(project, "echo one; echo 'error: the loss is NaN'; exit 1")
    assert job(project) == (1, "error: the loss is NaN")


@pytest.mark.parametrize("command", ["kill -KILL $$", "sh -c 'kill -KILL $$'; exit $?"])
def test_stage_that_the_kernel_killed_is_told_so(project: Path, command: str) -> None:
    write_stage(project, f"echo 'epoch 2/200: loss 0.4'; {command}")
    reason = "killed by signal 9 (SIGKILL): out of memory?"
    assert job(project) == (1, reason)


def test_cancelled_job_ends_its_stage_and_dvc_tidies_up(project: Path) -> None:
    write_stage(project, "kill -TERM $PPID; kill -TERM $$; touch out")
    assert job(project) == (1, "killed by signal 15 (SIGTERM)")
    assert not json.loads((project / ".dvc/tmp/rwlock").read_text()).get("write")


def test_reason_why_dvc_refuses_a_stage_is_told(project: Path) -> None:
    write_stage(project, "touch out", deps="[photos]")
    code, line = job(project)
    assert code == 1
    assert "photos" in line


def test_claim_of_a_process_that_is_none_of_dvcs_is_reported(project: Path) -> None:
    write_stage(project, "touch out")
    claim = f'{{"pid": {os.getpid()}, "cmd": "dvc repro"}}'
    held = f'{{"write": {{"{project / "out"}": {claim}}}, "read": {{}}}}'
    (project / ".dvc" / "tmp" / "rwlock").write_text(held)
    code, line = job(project)
    assert code == 1
    assert "is busy" in line
    assert "rwlock' and try again" in line


# --- full disks -----------------------------------------------------------------------------------

NO_SPACE = "No space left on device: "


def fill(full: Disk) -> None:
    with (full.root / "something else").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(full.root).free == 0


@pytest.mark.needs("root")
def test_full_disk_of_the_cache_is_named(project: Path, disk: Callable[[int], Disk]) -> None:
    cache = disk(4 * MEGABYTE)
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache.root}\n")
    write_stage(project, "head -c 6000000 /dev/urandom > out; echo 'best epoch 2'")
    code, line = job(project)
    assert code == 1
    assert line.startswith(f"{NO_SPACE}the DVC cache at {cache.root}")
    cache.resize(16 * MEGABYTE)
    assert job(project) == (0, "best epoch 2")


@pytest.mark.needs("root")
def test_folder_that_the_full_cache_has_no_room_for_is_not_recorded(
    project: Path, disk: Callable[[int], Disk]
) -> None:
    """DVC itself logs each file that doesn't fit, and records the stage as done."""
    cache = disk(MEGABYTE)
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache.root}\n")
    (project / "code").write_text("one")
    command = (
        "mkdir out; for n in 1 2 3 4; do head -c 400000 /dev/urandom > out/$n; done; echo done"
    )
    write_stage(project, command, deps="[code]")
    code, line = job(project)
    assert code == 1
    assert line.startswith(f"{NO_SPACE}the DVC cache at {cache.root}")
    cache.resize(8 * MEGABYTE)
    assert job(project) == (0, "done")
    made = {path.name: path.read_bytes() for path in (project / "out").iterdir()}
    shutil.rmtree(project / "out")
    assert job(project) == (0, "")
    assert {path.name: path.read_bytes() for path in (project / "out").iterdir()} == made


@pytest.mark.needs("root")
def test_full_disk_of_dvcs_temporary_files_is_named(
    project: Path, disk: Callable[[int], Disk]
) -> None:
    full = disk(MEGABYTE)
    shutil.move(project / ".dvc" / "tmp", full.root)
    (project / ".dvc" / "tmp").symlink_to(full.root / "tmp")
    fill(full)
    write_stage(project, "echo 'best epoch 2' | tee out")
    code, line = job(project)
    assert code == 1
    assert line.startswith(f"{NO_SPACE}DVC's temporary files at {project / '.dvc' / 'tmp'}")
    full.resize(8 * MEGABYTE)
    assert job(project) == (0, "best epoch 2")


@pytest.mark.needs("root")
def test_full_disk_of_the_project_is_named(tmp_path: Path, disk: Callable[[int], Disk]) -> None:
    full = disk(2 * MEGABYTE)
    cache = tmp_path / "cache"
    Repo.init(str(full.root), no_scm=True)
    (full.root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    write_stage(full.root, "touch out")
    (full.root / "log").touch()
    fill(full)
    running = start(full.root)
    printed, errors = running.communicate(timeout=60)  # its log has no room for it
    assert (running.returncode, errors) == (1, "")
    assert printed.startswith(f"log: {NO_SPACE}")
    assert str(full.root) in printed
