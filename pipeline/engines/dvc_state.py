"""DVC's graph and changes, and its own files put right after a kill, a full disk or a wrong clock.

DVC writes two files in place, so that a fault can leave them corrupt: ``dvc.lock`` and ``rwlock``,
which says who reads and writes what now. It believes what is in its cache.

Written against DVC 3.67. What no manual promises, each with a test of its own in
tests/unit/test_engine_state.py: `dvc.dependency.param.load_path`, `Repo.index.graph`,
`changed_stage` and `workspace_status`, `read_params`, the schema of dvc.lock, where the run cache
keeps a run, name and lock of ``rwlock``, and that DVC takes no checksum of a file in its cache that
is read-only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from dvc.dependency import param
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

from pipeline.engines.dvc_files import SECONDS_BETWEEN_READS, SECONDS_TO_WRITE
from pipeline.system.errors import InputError
from pipeline.system.progress import say

if TYPE_CHECKING:
    from dvc.lock import LockBase
    from dvc.output import Output
    from dvc.stage import Stage
    from networkx import DiGraph

MAY_BE_WRITTEN = 0o644


def open_repo(root: Path = Path()) -> Repo:
    """Return DVC's view of the project in `root`.

    Raises:
        DvcException: if it can't be read.
        SCMError: if there is no git repository.
    """
    if not hasattr(param.load_path, "cache_info"):  # DVC would read params.yaml for each stage
        param.load_path = functools.cache(param.load_path)
    return Repo(str(root))


def read_graph(repo: Repo) -> DiGraph:
    """Return the graph of all stages; the successors of a stage are those that it waits for.

    DVC writes ``dvc.lock`` in place, with seconds between its first and its last line where there
    are hundreds of stages, and each job on a cluster reads it while others end: one that is being
    written is read again.

    Raises:
        DvcException: if a file can't be read, and dvc.lock can't be for a minute.
    """
    given_up = time.monotonic() + SECONDS_TO_WRITE
    while True:
        try:
            return repo.index.graph
        except DvcException as error:
            if "dvc.lock" not in str(error) or time.monotonic() > given_up:
                raise
        time.sleep(SECONDS_BETWEEN_READS)


def settings_of(stage: Stage) -> dict[str, Any]:
    """Return the values of the settings that a stage depends on."""
    return {key: value for dep in stage.params for key, value in dep.read_params().items()}


def changed_stages(stages: Iterable[Stage]) -> set[str]:
    """Return the names of those whose command, settings, code, inputs or outputs DVC finds changed.

    Outputs that are to come back from DVC's cache are verified there.

    Raises:
        InputError: if one of them is or holds a link to nothing.
    """
    known: dict[Any, bool] = {}

    def differs(item: Output) -> bool:
        if isinstance(item, param.ParamsDependency):
            return _differs(item)
        # what all trainings depend on is asked for once (benchmark `nothing_to_do`)
        recorded = (item.fs.protocol, item.fs_path, item.hash_info and item.hash_info.value)
        if recorded not in known:
            known[recorded] = _differs(item)
        return known[recorded]

    changed = set()
    for stage in stages:
        differing = [item for item in [*stage.deps, *stage.outs] if differs(item)]
        for out in stage.outs:
            if out in differing:
                force_cache_verification(out)
        if differing or stage.changed_stage():
            changed.add(stage.addressing)
    return changed


def _differs(item: Output) -> bool:
    path = Path(item.fs_path)
    try:
        if path.is_symlink():
            path.stat()  # DVC and Snakemake call a link to nothing that is an output itself missing
        return bool(item.workspace_status())
    except FileNotFoundError as error:
        link = Path(error.filename or path)
        if not link.is_symlink():
            raise
        raise InputError(
            f"{os.path.relpath(link)} links to nothing: {link.readlink()} is missing; mount its "
            "disk (DVC's cache may be there), or remove the link, and its stage runs again"
        ) from None


def force_cache_verification(out: Output) -> None:
    """Have DVC take the checksums of what its cache holds of an output before it uses it.

    It believes every file in its cache that is read-only, as all are that it put there. A list of a
    folder's files it reads before it takes its checksum: a corrupt one is removed, as DVC does.
    """
    if not out.hash_info or not out.hash_info.value:
        return
    cached = Path(out.cache.oid_to_path(out.hash_info.value))
    files = [cached]
    with contextlib.suppress(OSError):  # one is missing, or another's in a shared cache
        if out.hash_info.isdir:
            content = cached.read_bytes()
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if f"{md5}.dir" != out.hash_info.value:
                cached.unlink()
                return
            files += [Path(out.cache.oid_to_path(entry["md5"])) for entry in json.loads(content)]
    for path in files:
        with contextlib.suppress(OSError):
            path.chmod(MAY_BE_WRITTEN)


def forget_runs(repo: Repo, names: Iterable[str]) -> None:
    """Remove from the run cache what dvc.lock records of these stages.

    DVC takes the latest run with the same settings, code and inputs back from there. One that was
    recorded wrongly stays the latest if the right one had been there before.
    """
    for name in names:
        stage = repo.stage.load_one(name=name)
        if not _can_hash(stage):  # DVC keeps no run of it, such as with always_changed
            continue
        value = _get_cache_hash(to_single_stage_lockfile(stage))
        run = repo.stage_cache._get_cache_path(_get_stage_hash(stage), value)
        Path(run).unlink(missing_ok=True)


def locked_stages(repo: Repo) -> dict[str, Any]:
    """Return what dvc.lock records of each stage of the project's own dvc.yaml.

    Raises:
        DvcException: if another process is writing it.
    """
    try:
        content = _parse_lock(_lock_path(repo).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, YAMLError, Invalid):
        raise DvcException("dvc.lock is being written by another process: run again") from None
    return content.get("stages", {})


def _lock_path(repo: Repo) -> Path:
    return Path(repo.root_dir, "dvc.lock")


@functools.lru_cache(maxsize=1)  # of hundreds of stages it takes seconds, and is asked for twice
def _parse_lock(text: str) -> dict[str, Any]:
    content: dict[str, Any] = COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text) or {})
    return content


def clamp_future_mtimes(paths: Iterable[Path]) -> None:
    """Give outputs of the future the present time, so that what is made from now on is newer."""
    now = time.time()
    for output in paths:
        for path in (output, output / ".snakemake_timestamp"):  # a folder's time, for Snakemake
            if path.exists() and path.stat().st_mtime > now:
                os.utime(path, (now, now))


def quarantine_corrupt_lock(repo: Repo, folder: Path) -> None:
    """Move a corrupt ``dvc.lock`` to `folder`: all that it named comes back from the cache."""
    _quarantine(_lock_path(repo), _parse_lock, repo.lock, folder)


def quarantine_corrupt_rwlock(repo: Repo, folder: Path) -> None:
    """Move a corrupt ``rwlock`` to `folder`; it is read in no time, so that each job can."""
    _quarantine(Path(repo.tmp_dir, RWLOCK_FILE), json.loads, rwlock_guard(repo), folder)


def running() -> dict[Path, int]:
    """Return by output the process that writes it now, as DVC's ``rwlock`` in this folder has it.

    It is that of the stage's command, which a signal ends.
    """
    try:
        claims = json.loads(Path(".dvc/tmp", RWLOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it is being written
        return {}
    writers = {Path(path): _running(**claim) for path, claim in claims.get("write", {}).items()}
    return {path: writer for path, writer in writers.items() if writer}


def _running(pid: int, cmd: str) -> int | None:
    """Return the process of a stage's command, None if DVC's process `pid` is another's by now."""
    try:
        process = psutil.Process(pid)
        if not " ".join(process.cmdline()).endswith(" ".join(cmd.split(" ")[-2:])):
            return None
        return (process.children() or [process])[0].pid
    except psutil.Error:
        return None


def rwlock_guard(repo: Repo) -> LockBase:
    """Return the lock that DVC holds while it writes ``rwlock``."""
    return make_lock(f"{repo.tmp_dir}/{RWLOCK_LOCK}", tmp_dir=repo.tmp_dir)


def _quarantine(path: Path, parse: Callable[[str], object], lock: LockBase, folder: Path) -> None:
    def is_corrupt() -> bool:
        try:
            parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (ValueError, YAMLError, Invalid):
            return True
        return False

    if not is_corrupt():
        return
    with contextlib.suppress(LockError), lock:  # one that runs may be writing it
        if is_corrupt():
            folder.mkdir(parents=True, exist_ok=True)
            path.replace(folder / path.name)
            say(f"{os.path.relpath(path)} is corrupt: moved to {folder}; DVC writes it again")
