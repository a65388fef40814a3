"""Torn notes of the engines are put aside, times of the future brought back, caches checked."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE

from pipeline.engines import dvc_state

LOCK = """\
schema: '2.0'
stages:
  split:
    cmd: python -m pipeline split
    outs:
    - path: data/splits
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 7
      nfiles: 3
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(str(tmp_path), no_scm=True)


def test_whole_notes_stay(repo: Repo, tmp_path: Path) -> None:
    lock, claims = tmp_path / "dvc.lock", Path(repo.tmp_dir, RWLOCK_FILE)
    lock.write_text(LOCK)
    claims.write_text('{"read": {}}')
    dvc_state.quarantine_corrupt_lock_files(repo, tmp_path / "torn")
    assert lock.read_text() == LOCK
    assert claims.exists()
    assert not (tmp_path / "torn").exists()


@pytest.mark.parametrize("length", [4, 10, 16, 40])
def test_torn_lock_is_put_aside(repo: Repo, tmp_path: Path, length: int) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK[:length])
    dvc_state.quarantine_corrupt_lock_files(repo, tmp_path / "torn")
    assert not lock.exists()
    assert (tmp_path / "torn" / "dvc.lock").read_text() == LOCK[:length]


def test_lock_with_a_merge_conflict_is_put_aside(repo: Repo, tmp_path: Path) -> None:
    ours, theirs = "      size: 7\n", "      size: 8\n"
    conflict = f"<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> theirs\n"
    (tmp_path / "dvc.lock").write_text(LOCK.replace(ours, conflict))
    dvc_state.quarantine_corrupt_lock_files(repo, tmp_path / "torn")
    assert not (tmp_path / "dvc.lock").exists()


def test_job_on_a_cluster_puts_claims_aside_and_leaves_the_lock(repo: Repo, tmp_path: Path) -> None:
    lock, claims = tmp_path / "dvc.lock", Path(repo.tmp_dir, RWLOCK_FILE)
    lock.write_text(LOCK[:40])  # which another may be writing
    claims.write_text("")
    dvc_state.quarantine_corrupt_rwlock(repo, tmp_path / "torn")
    assert lock.read_text() == LOCK[:40]
    assert not claims.exists()


def test_torn_claims_are_put_aside_but_not_while_they_are_written(
    repo: Repo, tmp_path: Path
) -> None:
    claims = Path(repo.tmp_dir, RWLOCK_FILE)
    claims.write_text('{"read": {"/data')
    with dvc_state.guard_of_claims(repo):
        dvc_state.quarantine_corrupt_lock_files(repo, tmp_path / "torn")
        assert claims.exists()
    dvc_state.quarantine_corrupt_lock_files(repo, tmp_path / "torn")
    assert not claims.exists()


def test_outputs_of_the_future_become_outputs_of_now(tmp_path: Path) -> None:
    future, past = tmp_path / "future", tmp_path / "past"
    for folder in (future, past):
        folder.mkdir()
        (folder / ".snakemake_timestamp").touch()
    tomorrow = time.time() + 86_400
    os.utime(future / ".snakemake_timestamp", (tomorrow, tomorrow))
    os.utime(future, (tomorrow, tomorrow))
    os.utime(past, (5, 5))
    dvc_state.clamp_future_mtimes([future, past, tmp_path / "missing"])
    assert future.stat().st_mtime <= time.time()
    assert (future / ".snakemake_timestamp").stat().st_mtime <= time.time()
    assert past.stat().st_mtime == 5


def test_dvc_finds_a_changed_object_when_it_has_it_checked(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_bytes(b"right")
    (stage,) = repo.add(str(tmp_path / "out"))
    (out,) = stage.outs
    assert not out.changed_cache()
    held = next(
        path for path in (tmp_path / ".dvc/cache/files").rglob("*") if path.stat().st_size == 5
    )
    held.chmod(0o644)
    held.write_bytes(b"wrong")
    held.chmod(stat.S_IREAD | stat.S_IRGRP | stat.S_IROTH)
    assert not out.changed_cache()  # DVC believes a file that is read-only
    dvc_state.force_cache_verification(out)
    assert out.changed_cache()


def test_lock_that_is_being_written_is_read_once_it_is_whole(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  split:\n    cmd: python -m pipeline split\n    outs: [data/splits]\n"
    )
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK[:40])
    writing = threading.Timer(1.2, lock.write_text, [LOCK])
    writing.start()
    (stage,) = dvc_state.read_index(repo).graph
    writing.join()
    assert stage.outs[0].hash_info.value == "0123456789abcdef0123456789abcdef.dir"


def test_lock_that_stays_torn_is_told(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_state, "SECONDS_TO_WRITE", 1.0)
    (tmp_path / "dvc.yaml").write_text("stages:\n  split:\n    cmd: python -m pipeline split\n")
    (tmp_path / "dvc.lock").write_text(LOCK[:40])
    with pytest.raises(DvcException, match=r"dvc\.lock"):
        dvc_state.read_index(repo)
