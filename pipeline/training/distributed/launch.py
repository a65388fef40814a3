"""Starts the processes of a training, or joins those that torchrun has started.

Without torchrun they are all on this machine, and nothing of them can be reached from another:
their store and their connections are on the loopback device alone. (torchrun's own rendezvous
listens on every network, and unpickles what it is sent.) They end together: with the first that
fails, and with the process that started them, however that ends.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any, Concatenate, NoReturn, ParamSpec

import torch
import torch.distributed as dist

from pipeline.system.errors import InputError, StageError
from pipeline.training import compute
from pipeline.training.distributed.group import Group

Arguments = ParamSpec("Arguments")

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOOPBACK = "127.0.0.1"
# Other jobs may hold the GPUs for long. A process that died is noticed at once: its connections are
# closed.
PATIENCE = timedelta(days=1)
SECONDS_TO_END = 5.0
LOST = 75  # exit code of a process that can't go on since another has ended
FAILURE = "failure"  # key of the store: what the first process to fail says


class _LostError(Exception):
    """Another process has ended, so this one can't go on."""


@dataclass(frozen=True)
class Member:
    """One of the processes that train together, before and after it has joined the others.

    Attributes:
        store: what all of them can write to and read from.
        rank: its number among all, from 0.
        count: of all.
        local_rank: its number on its machine, from 0; that of its GPU.
        local_count: of those on its machine.
        machine: the number of its machine.
    """

    store: dist.Store
    rank: int
    count: int
    local_rank: int
    local_count: int
    machine: int

    @contextmanager
    def gpu(self) -> Iterator[int]:
        """Hold this process's GPU; the first on each machine holds all of that machine's.

        Raises:
            InputError: if there are fewer GPUs than processes.
        """
        available = torch.cuda.device_count()
        if available < self.local_count:
            raise InputError(
                f"params.yaml: train.processes: {self.count} needs {self.local_count} GPUs on one "
                f"machine, but PyTorch finds {available} here; make it {available}, or set "
                "compute.device to cpu"
            )
        held = f"GPUs of machine {self.machine} are held"
        if self.local_rank == 0:
            with compute.first_gpus(self.local_count):
                self.store.set(held, "")
                yield 0
        else:
            self.store.wait([held], PATIENCE)
            yield self.local_rank

    @contextmanager
    def group(self, device: torch.device) -> Iterator[Group]:
        """Join the other processes, to train on `device`."""
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=self.store,
            rank=self.rank,
            world_size=self.count,
            timeout=PATIENCE,
        )
        yield Group(device)
        dist.destroy_process_group()  # not after an error: it would wait for the others

    def is_first_to_fail(self, kind: str, message: str) -> bool:
        """Tell whether no other process has failed before, and note what this one says."""
        said = json.dumps([self.rank, kind, message])
        return self.store.compare_set(FAILURE, "", said).decode() == said


def across(
    count: int,
    work: Callable[Concatenate[Member, Arguments], None],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> None:
    """Run `work` in `count` processes: those that torchrun started, or new ones.

    Args:
        count: ``train.processes``.
        work: a function of a module; it gets its `Member` and then the arguments.
        arguments: can be pickled.
        named: the same.

    Raises:
        InputError: if torchrun started another number of processes, or `work` raises it.
        StageError: if `work` raises it, or one of the processes is killed.
    """
    if "WORLD_SIZE" in os.environ:
        _join(_member_of(os.environ, count), work, arguments, named)
    else:
        _start(count, work, arguments, named)


def _member_of(environment: Mapping[str, str], count: int) -> Member:
    """Return this process's place among those that torchrun started."""
    missing = [name for name in VARIABLES if name not in environment]
    if missing:
        raise InputError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}: start the training with torchrun, "
            "or unset WORLD_SIZE to let it start its own processes"
        )
    try:
        rank, started, local_rank, local_count = (int(environment[name]) for name in VARIABLES[:4])
    except ValueError:
        raise InputError(
            f"{', '.join(VARIABLES[:4])} have to be numbers: start the training with torchrun, or "
            "unset WORLD_SIZE to let it start its own processes"
        ) from None
    if started != count:
        if local_rank != 0:
            raise SystemExit(InputError.exit_code)  # the first one on the machine tells
        raise InputError(
            f"params.yaml: train.processes: {count}, but torchrun started {started} (WORLD_SIZE); "
            "make them the same"
        )
    store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
    machine = int(environment.get("GROUP_RANK", rank // local_count))
    return Member(store, rank, count, local_rank, local_count, machine)


def _join(
    member: Member, work: Callable[..., None], arguments: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """Do this process's part; the first that fails says why, and the others just end."""
    try:
        with _failure_noted(member):
            work(member, *arguments, **named)
    except _LostError:
        message = "another process of this training has ended; the same command goes on"
        if member.is_first_to_fail("stage", message):
            raise StageError(message) from None
        raise SystemExit(LOST) from None


@contextmanager
def _failure_noted(member: Member) -> Iterator[None]:
    """Let only the first error of all processes pass; the others end with their exit code."""
    try:
        yield
    except (InputError, StageError) as error:
        kind = "input" if isinstance(error, InputError) else "stage"
        if member.is_first_to_fail(kind, str(error)):
            raise
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
        if member.is_first_to_fail("stage", message):
            raise StageError(message) from None
        raise SystemExit(StageError.exit_code) from None
    except Exception as error:
        if _is_lost_connection(error):
            raise _LostError from None
        if member.is_first_to_fail("defect", f"{type(error).__name__}: {error}"):
            raise
        raise SystemExit(1) from None


def _is_lost_connection(error: Exception) -> bool:
    """Tell what the collectives raise when another process has gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _start(
    count: int, work: Callable[..., None], arguments: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """Run `work` in new processes on this machine, and raise what the first to fail says."""
    listener = socket.create_server((LOOPBACK, 0))
    port = listener.getsockname()[1]
    store = dist.TCPStore(
        LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    spawned = multiprocessing.get_context("spawn")
    processes = [
        spawned.Process(
            target=_begin, args=(rank, count, port, work, arguments, named), daemon=True
        )
        for rank in range(count)
    ]
    try:
        with _interrupts_held_back():
            for process in processes:
                process.start()
        failed = _first_failed(processes)
    finally:
        _end(processes)
    if failed is not None:
        raise _failure(failed, processes, store)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let processes that are started in here never get Ctrl-C: this one ends them instead."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_failed(processes: Sequence[SpawnProcess]) -> int | None:
    """Wait until all have ended, or one has failed; return its rank."""
    running = {process.sentinel: rank for rank, process in enumerate(processes)}
    while running:
        for sentinel in wait(list(running)):
            rank = running.pop(sentinel)  # type: ignore[arg-type]
            processes[rank].join()
            if processes[rank].exitcode:
                return rank
    return None


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End those that still run."""
    begun = [process for process in processes if process.pid is not None]
    others = [process.sentinel for process in begun if process.exitcode != LOST]
    if others and len(others) < len(begun):
        # that of which one lost the connection ends by itself, with an exit code that says more
        wait(others, SECONDS_TO_END)
    for process in begun:
        process.terminate()
    for process in begun:
        process.join(SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()


def _failure(failed: int, processes: Sequence[SpawnProcess], store: dist.Store) -> Exception:
    """Return the error that says why the processes ended."""
    if store.check([FAILURE]):
        rank, kind, message = json.loads(store.get(FAILURE))
        match kind:
            case "input":
                return InputError(message)
            case "stage":
                return StageError(message)
        return StageError(
            f"process {rank} of {len(processes)} failed, as told above: {message.splitlines()[0]}"
        )
    return StageError(f"{_death(failed, processes)}; the same command goes on after the last epoch")


def _death(failed: int, processes: Sequence[SpawnProcess]) -> str:
    """Say which process ended without a word, and how."""
    codes = {rank: process.exitcode or 0 for rank, process in enumerate(processes)}
    if codes[failed] == LOST:  # by its own account it isn't the culprit
        others = [rank for rank, code in codes.items() if code not in (0, LOST, -signal.SIGTERM)]
        failed = others[0] if others else failed
    code = codes[failed]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    memory = " (was memory short?)" if code == -signal.SIGKILL else ""
    return f"process {failed} of {len(processes)} {how}{memory}"


def _begin(
    rank: int,
    count: int,
    port: int,
    work: Callable[..., None],
    arguments: Sequence[Any],
    named: Mapping[str, Any],
) -> None:
    """Be one of the processes that `_start` starts."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ[variable] = loopback
    store = dist.TCPStore(LOOPBACK, port, is_master=False, timeout=PATIENCE)
    member = Member(store, rank, count, rank, count, machine=0)
    try:
        with _failure_noted(member):
            work(member, *arguments, **named)
    except (InputError, StageError) as error:
        _leave(error.exit_code)  # `_start` tells it
    except _LostError:
        _leave(LOST)
    except SystemExit as ended:
        _leave(int(ended.code or 0))


def _leave(code: int) -> NoReturn:
    """End without tidying up, in which a broken group's threads may abort the process aloud."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
