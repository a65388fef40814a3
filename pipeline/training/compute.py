"""Where the networks run, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.settings.schema import Compute
from pipeline.system.errors import InputError, StageError
from pipeline.system.machine import cpu_name
from pipeline.system.progress import say

if TYPE_CHECKING:
    from filelock import BaseFileLock

# glibc's malloc.h
M_TRIM_THRESHOLD = -1  # top of the heap that is given back; -1: never
M_MMAP_MAX = -4  # allocations that get a mapping of their own, given back when freed


@dataclass(frozen=True)
class Hardware:
    """What `prepare` chose."""

    device: torch.device
    precision: str  # ``fp32`` or ``bf16``, of the convolutions and matrix products
    threads: int  # CPU threads of this process
    name: str  # of the GPU or CPU, for the record

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run; off for fp32."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        )


@contextlib.contextmanager
def free_gpu() -> Iterator[int]:
    """Hold the first GPU that no other job holds: two on one would share memory and time."""
    with _waiting_for([[index] for index in range(torch.cuda.device_count())]) as (index,):
        yield index


@contextlib.contextmanager
def first_gpus(count: int) -> Iterator[None]:
    """Hold the first `count` GPUs, once no other job holds any of them."""
    with _waiting_for([list(range(count))]):
        yield


@contextlib.contextmanager
def prepare(
    compute: Compute,
    precision: str | None = None,
    gpu: Callable[[], contextlib.AbstractContextManager[int]] = free_gpu,
) -> Iterator[Hardware]:
    """Set up this process as `compute` says and hold the GPU, if it uses one, for itself.

    Args:
        compute: the settings.
        precision: instead of `compute.precision`.
        gpu: gives the index of the GPU to use and holds it.

    Raises:
        InputError: if a GPU is asked for and there is none.
        StageError: if the block runs out of memory.
    """
    torch.set_num_threads(compute.threads)
    # glibc keeps freed memory for the next step instead of giving it back to the system. The maps
    # of a step are large, and the system hands out pages one by one, zeroed: to fault them in for
    # each step took two thirds of the time of a DenseNet's evaluation (benchmark `evaluation`).
    with contextlib.suppress(AttributeError, OSError):  # another C library hasn't got it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "params.yaml: compute.device: 'cuda', but PyTorch finds no GPU here; "
            "use auto or cpu, or look at what nvidia-smi says"
        )
    # else the environment may have oneDNN round products in fp32 to bf16, whatever the settings say
    os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "STRICT"
    with contextlib.ExitStack() as held:
        device, name = torch.device("cpu"), cpu_name()
        if compute.device != "cpu" and torch.cuda.is_available():
            device = torch.device("cuda", held.enter_context(gpu()))
            torch.cuda.set_device(device)
            name = torch.cuda.get_device_name(device)
            # deterministic kernels, and fp32 that is what it says
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)  # takes a second: not on a CPU
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        held.enter_context(_explained_shortage(device))
        chosen = precision or compute.precision
        used = _best_precision(device) if chosen == "auto" else chosen
        yield Hardware(device, used, compute.threads, name)


@contextlib.contextmanager
def _explained_shortage(device: torch.device) -> Iterator[None]:
    """Say what to change where PyTorch only says what it couldn't allocate."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # what a CUDA graph's recording ran out of comes as the context of another error
        causes = (error, error.__context__)
        is_shortage = any(isinstance(one, (MemoryError, torch.OutOfMemoryError)) for one in causes)
        if not is_shortage and "can't allocate memory" not in str(error):
            raise
        where = "the GPU" if device.type == "cuda" else "this machine"
        raise StageError(
            f"out of memory on {where}: {str(error).splitlines()[0]}; lower train.batch_size, "
            "evaluate.batch_size or data.image_size in params.yaml, or set efficient: true for "
            "the DenseNets"
        ) from None


@contextlib.contextmanager
def _waiting_for(choices: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
    """Hold all GPUs of the first choice that no other job holds any of; wait until there is one.

    None is held while it waits: two jobs that hold what the other needs would wait forever.
    """
    from filelock import Timeout

    has_said = False
    while True:
        for indices in choices:
            with contextlib.ExitStack() as held:
                try:
                    for index in indices:
                        held.enter_context(_gpu_lock(index))
                except Timeout:
                    continue
                yield indices
                return
        if not has_said:
            say("waiting for a GPU: other jobs hold all of them")
            has_said = True
        time.sleep(1)


def _gpu_lock(index: int) -> BaseFileLock:
    from filelock import FileLock

    identity = torch.cuda.get_device_properties(index).uuid
    path = Path(tempfile.gettempdir()) / f"regard-gpu-{os.getuid()}-{identity}.lock"
    return FileLock(path, timeout=0)


def _best_precision(device: torch.device) -> str:
    """Return bf16 where it is done in hardware: elsewhere it is slower than fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if has_bf16 else "fp32"
