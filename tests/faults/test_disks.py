"""Disks that are full or read-only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Disk, small
from tests.faults.record import REPORTED, UNHARMED
from tests.faults.stages import ENGINES, STAGES, Stage, error_line, results, run
from tests.projects import Project

AMPLE = 1 << 28
PAGE = 4096  # the least that a file system in memory can hold
FULL = "the disk is full; make room on it"
READ_ONLY = "Read-only file system"


def written(stage: Stage, root: Path) -> dict[str, str]:
    """The sha256 of what the stage wrote to another folder, as if it were in the project."""
    place = root.parent / "as if"
    (place / stage.out).parent.mkdir(parents=True)
    shutil.copytree(root, place / stage.out)
    found = results(place)
    shutil.rmtree(place)
    return found


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("share", [0.0, 0.5], ids=["nothing fits", "half of it fits"])
@pytest.mark.parametrize("name", STAGES)
def test_full_disk_is_reported_and_the_next_run_is_right(
    name: str,
    share: float,
    finished: Project,
    right: dict[str, str],
    disk: Callable[[int], Disk],
    see: Callable[..., None],
) -> None:
    stage = STAGES[name]
    needed = sum(
        bytes_of(path) if path.is_dir() else path.stat().st_size
        for pattern in stage.outputs
        for path in finished.root.glob(pattern)
    )
    small_disk = disk((1 + int(share * needed) // PAGE) * PAGE)
    (small_disk.root / "something else").write_bytes(bytes(PAGE))
    out = small_disk.root / "out"
    command = stage.command("--out", str(out))
    assert FULL in error_line(run(command, finished.root))

    small_disk.resize(AMPLE)
    assert run(command, finished.root).returncode == 0
    expected = {path: right[path] for path in written(stage, out)}
    assert written(stage, out) == expected
    assert len(expected) > 0 or name == "measure"
    left = {path.name for path in small_disk.root.iterdir()} - {"out.json"}  # what made `out`
    assert left == {"out", "something else"}
    see("full disk", f"stage `{name}`, alone", REPORTED, REPORTED)


def test_training_continues_where_no_checkpoint_fits(
    finished: Project,
    right: dict[str, str],
    disk: Callable[[int], Disk],
    see: Callable[..., None],
) -> None:
    checkpoints = disk(PAGE).root
    done = run(STAGES["train"].command("--checkpoints", str(checkpoints)), finished.root)
    assert done.returncode == 0
    assert done.stderr.count("no checkpoint can be written (No space left on device)") == 1
    assert results(finished.root) == right
    see("full disk", "checkpoints", UNHARMED, UNHARMED)


@pytest.mark.parametrize("name", STAGES)
def test_read_only_output_folder_is_reported_and_the_next_run_is_right(
    name: str,
    finished: Project,
    right: dict[str, str],
    disk: Callable[[int], Disk],
    see: Callable[..., None],
) -> None:
    stage, locked = STAGES[name], disk(AMPLE)
    out = locked.root / "out"
    locked.read_only()
    command = stage.command("--out", str(out))
    message = error_line(run(command, finished.root))
    assert READ_ONLY in message
    assert str(out) in message

    locked.writable()
    assert run(command, finished.root).returncode == 0
    assert written(stage, out) == {path: right[path] for path in written(stage, out)}
    see("read-only output folder", f"stage `{name}`, alone", REPORTED, REPORTED)


def test_full_cache_is_named_and_the_next_run_is_right(
    begun: Project,
    right: dict[str, str],
    disk: Callable[[int], Disk],
    see: Callable[..., None],
) -> None:
    cache = disk(1 << 19)
    begun.dvc("cache", "dir", "--local", str(cache.root))
    done = run(ENGINES["snakemake"], begun.root)
    assert done.returncode == 1
    assert f"failed: No space left on device: the DVC cache at {cache.root}" in done.stderr

    cache.resize(AMPLE)
    again = run(ENGINES["snakemake"], begun.root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(begun.root) == right
    assert begun.is_clean()
    see("full disk", "DVC's cache, then `snakemake`", REPORTED, REPORTED)


@pytest.mark.parametrize(("engine", "share"), zip(ENGINES, (0.3, 0.7), strict=True))
def test_engine_on_a_full_disk_stops_and_continues_when_there_is_room(
    engine: str,
    share: float,
    undisturbed: Project,
    right: dict[str, str],
    disk: Callable[[int], Disk],
    see: Callable[..., None],
) -> None:
    full_disk = disk(AMPLE)
    project = small(full_disk.root / "project")
    used = shutil.disk_usage(full_disk.root).used
    needed = bytes_of(undisturbed.root) - bytes_of(project.root)
    full_disk.resize(used + int(share * needed))
    done = run(ENGINES[engine], project.root)
    assert done.returncode != 0
    assert "No space left on device" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr

    full_disk.resize(AMPLE)
    again = run(["snakemake", "--unlock"], project.root)
    assert again.returncode == 0
    again = run(ENGINES[engine], project.root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(project.root) == right
    assert project.is_clean()
    see("full disk", f"all of `{engine}`", REPORTED, REPORTED)
