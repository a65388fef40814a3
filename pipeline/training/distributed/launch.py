"""Starts the processes of a training by PyTorch's launcher, or joins those of torchrun.

Without torchrun they are all on this machine, and nothing of them can be reached from another:
their store is a file of this user alone, their connections are on the loopback device. (torchrun's
own rendezvous listens on every network, and unpickles what it is sent.) They end together: with the
first that fails, and with the process that started them, however that ends.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from pipeline.system.errors import InputError, StageError, format_os_error
from pipeline.training.distributed.member import Member

FAILURE = "failure"  # key of the store: code, message and rank of the first process to fail
LOST = 75  # code of a failure whose cause is that another process has ended


def across(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Run `work` in `count` processes: those that torchrun started, or new ones.

    `work` is a function of a module; it gets its `Member`, then the arguments, which are pickled.

    Raises:
        InputError: if torchrun started another number of processes, or `work` raises it.
        StageError: if `work` raises it, or one of the processes is killed.
    """
    if "WORLD_SIZE" in os.environ:
        _do(Member.from_torchrun(count), work, arguments)
        return
    # one line for a person is enough, and it says which process ended the others
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="regard-") as folder:
        path = f"{folder}/store"
        store = dist.FileStore(path)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:  # the processes never get Ctrl-C: this one ends them instead
            context = start_processes(
                _begin, (count, path, work, arguments), nprocs=count, join=False, daemon=True
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            while not context.join():
                pass
        except ProcessException as ended:
            raise _failure(context, ended.error_index, store) from None
        finally:
            for process in context.processes:
                process.kill()
                process.join()


def _do(member: Member, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Do this process's part; the first of all to fail raises its error, the others just end."""
    try:
        work(member, *arguments)
    except Exception as error:
        is_defect, code = False, None
        match error:
            case InputError() | StageError():
                failure = error
            case OSError():
                failure = StageError(format_os_error(error))
            case _ if isinstance(error, dist.DistError) or "gloo" in str(error):
                failure = StageError(
                    "another process of this training has ended; the same command resumes it"
                )
                code = LOST
            case _:
                is_defect = True
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                failure = StageError(
                    f"process {member.rank} of {member.count} failed, see its traceback: {what}"
                )
        note = json.dumps([code or failure.exit_code, str(failure), member.rank])
        if member.store.compare_set(FAILURE, "", note).decode() != note:
            raise SystemExit(failure.exit_code) from None
        if is_defect:
            traceback.print_exc()
        raise failure from None


def _begin(
    rank: int, count: int, path: str, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Be one of the processes that `across` starts."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    member = Member(dist.FileStore(path), rank, count, rank, count)
    try:
        _do(member, work, arguments)
        return
    except (InputError, StageError) as failure:  # `across` says why
        code = failure.exit_code
    except SystemExit as ended:
        code = int(ended.code or 0)
    # without tidying up, in which a broken group's threads may abort the process aloud
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _failure(context: ProcessContext, first: int, store: dist.Store) -> Exception:
    """Return the error that says why the processes ended, of which process `first` did at first."""
    codes = [process.exitcode for process in context.processes]
    died = [rank for rank, code in enumerate(codes) if code not in (0, 1, 2, -signal.SIGTERM)]
    if store.check([FAILURE]):
        code, message, _ = json.loads(store.get(FAILURE))
        if code != LOST or not died:
            return InputError(message) if code == InputError.exit_code else StageError(message)
    rank = died[0] if died else first
    how = f"ended with {codes[rank]}"
    if codes[rank] < 0:
        how = f"was killed by {signal.Signals(-codes[rank]).name}"
    memory = " (was memory short?)" if codes[rank] == -signal.SIGKILL else ""
    return StageError(
        f"process {rank} of {len(codes)} {how}{memory}; the same command resumes after the "
        "last epoch"
    )
