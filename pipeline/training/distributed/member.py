"""One of the processes that train together: its place among them, its GPU, its group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from pipeline.system.errors import InputError
from pipeline.training import compute
from pipeline.training.distributed.group import Group

# Other jobs may hold the GPUs for long. A process that died is noticed at once: its connections are
# closed.
PATIENCE = timedelta(days=1)
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")  # numbers


@dataclass(frozen=True)
class Member:
    """A process before and after it has joined the others."""

    store: dist.Store  # what all of them can write to and read from
    rank: int  # its number among all, from 0
    count: int
    local_rank: int  # its number on its machine, from 0; that of its GPU
    local_count: int

    @classmethod
    def from_torchrun(cls, count: int) -> Member:
        """Return this process's place among those that torchrun started.

        Raises:
            InputError: if they aren't `count`, or another program set some of its variables.
        """
        missing = [name for name in TORCHRUN if not os.environ.get(name, "").isdecimal()]
        if missing or "MASTER_ADDR" not in os.environ:
            raise InputError(
                f"WORLD_SIZE is set, but not {', '.join(missing) or 'MASTER_ADDR'}: start the "
                "training with torchrun, or unset WORLD_SIZE to let it start its own processes"
            )
        rank, started, local_rank, local_count, _ = (int(os.environ[name]) for name in TORCHRUN)
        if started != count:
            if local_rank != 0:
                raise SystemExit(InputError.exit_code)  # the first on the machine says why
            raise InputError(
                f"params.yaml: train.processes: {count}, but torchrun started {started} "
                "(WORLD_SIZE); make them the same"
            )
        store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
        return cls(store, rank, count, local_rank, local_count)

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
        held = f"GPUs from rank {self.rank - self.local_rank} on are held"
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
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=self.store, rank=self.rank, world_size=self.count, timeout=PATIENCE
        )
        yield Group(device)
        dist.destroy_process_group()  # not after an error: it would wait for the others
