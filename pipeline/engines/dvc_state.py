"""What a kill, a full disk or a wrong clock leaves of the engines' own files, put right.

Both engines keep notes between two runs. DVC writes two of them in place, so that a fault can tear
them, and believes what is in its cache; Snakemake compares the times of files.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.system.progress import say

if TYPE_CHECKING:
    from dvc.lock import LockBase
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.repo.index import Index

SECONDS_TO_WRITE = 60.0  # many times what dvc.lock takes
SECONDS_BETWEEN_READS = 0.5
MAY_BE_WRITTEN = 0o644


def quarantine_corrupt_lock_files(repo: Repo, aside: Path) -> None:
    """Move DVC's ``dvc.lock`` and ``rwlock`` out of the way where they are torn.

    DVC would refuse to do anything. Without the first all that it named comes back from the cache;
    the second says who reads and writes what now.

    Args:
        repo: as DVC opened it.
        aside: a folder to put them into.
    """
    _quarantine(Path(repo.root_dir, "dvc.lock"), _is_corrupt_lock, repo.lock, aside)
    quarantine_corrupt_rwlock(repo, aside)


def quarantine_corrupt_rwlock(repo: Repo, aside: Path) -> None:
    """Do the same with ``rwlock`` alone, which is read in no time: on a cluster each job does.

    Args:
        repo: as DVC opened it.
        aside: a folder to put it into.
    """
    from dvc.rwlock import RWLOCK_FILE

    _quarantine(Path(repo.tmp_dir, RWLOCK_FILE), _is_corrupt_json, guard_of_claims(repo), aside)


def _quarantine(
    path: Path, is_corrupt: Callable[[Path], bool], lock: LockBase, aside: Path
) -> None:
    from dvc.lock import LockError

    if not is_corrupt(path):
        return
    with contextlib.suppress(LockError), lock:  # one that runs may be writing it
        if is_corrupt(path):
            aside.mkdir(parents=True, exist_ok=True)
            path.replace(aside / path.name)
            say(f"{os.path.relpath(path)}: can't be read, put aside in {aside}; DVC writes it anew")


def read_index(repo: Repo) -> Index:
    """Return what DVC knows of all stages; of a ``dvc.lock`` that is being written, once it is.

    DVC writes it in place, with seconds between its first and its last line where there are
    hundreds of stages, and each job on a cluster reads it while others end.

    Args:
        repo: as DVC opened it.

    Raises:
        DvcException: if a file can't be read, and dvc.lock can't be for a minute.
    """
    from dvc.exceptions import DvcException

    given_up = time.monotonic() + SECONDS_TO_WRITE
    while True:
        try:
            return repo.index
        except DvcException as error:
            if "dvc.lock" not in str(error) or time.monotonic() > given_up:
                raise
        time.sleep(SECONDS_BETWEEN_READS)


def guard_of_claims(repo: Repo) -> LockBase:
    """Return the lock that DVC holds while it writes who reads and writes what."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_LOCK

    return make_lock(f"{repo.tmp_dir}/{RWLOCK_LOCK}", tmp_dir=repo.tmp_dir)


def _is_corrupt_lock(path: Path) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML, YAMLError
    from voluptuous import Invalid

    if not path.exists():
        return False
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {})
    except (YAMLError, Invalid, ValueError):
        return True
    return False


def _is_corrupt_json(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True
    return False


def clamp_future_mtimes(paths: Iterable[Path]) -> None:
    """Give what is of the future the present time, so that what is made from now on is newer.

    Args:
        paths: outputs; a folder's time is that of the file in it by which Snakemake tells it.
    """
    now = time.time()
    for output in paths:
        for path in (output, output / ".snakemake_timestamp"):
            if path.exists() and path.stat().st_mtime > now:
                os.utime(path, (now, now))


def force_cache_verification(out: Output) -> None:
    """Have DVC take the checksums of what its cache holds of an output before it uses it.

    It believes every file in its cache that is read-only, as all are that it put there.

    Args:
        out: an output that is to come back from the cache.
    """
    if not out.hash_info or not out.hash_info.value:
        return
    cached = Path(out.cache.oid_to_path(out.hash_info.value))
    try:
        listed = json.loads(cached.read_text(encoding="utf-8")) if out.hash_info.isdir else []
        files = [Path(out.cache.oid_to_path(entry["md5"])) for entry in listed]
    except (OSError, ValueError, TypeError, KeyError):  # the list itself is missing or torn
        files = []
    for path in (cached, *files):
        with contextlib.suppress(OSError):  # it is missing, or another's in a shared cache
            path.chmod(MAY_BE_WRITTEN)
