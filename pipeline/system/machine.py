"""The machine that this runs on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import psutil

BUSY = 0.1  # share of the processor time from which on other processes spoil a measurement


def cpu_name() -> str:
    """Return the processor's model name, or its architecture where the system doesn't say."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OtherProcesses:
    """How busy other processes keep the machine, from the making of this on."""

    def __init__(self) -> None:
        self._before = self._seconds()

    def share(self) -> float:
        """Return their share of the processor time of all cores, in [0, 1]."""
        busy, own, all_cores = (
            now - before for now, before in zip(self._seconds(), self._before, strict=True)
        )
        return min(max(busy - own, 0.0) / all_cores, 1.0) if all_cores > 0 else 0.0

    @staticmethod
    def _seconds() -> tuple[float, float, float]:
        """Return the seconds of all cores that were busy, those of this process, and all."""
        times = psutil.cpu_times()._asdict()
        for counted_twice in ("guest", "guest_nice"):  # in user and nice, too
            times.pop(counted_twice, None)
        idle = times["idle"] + times.get("iowait", 0.0)
        return sum(times.values()) - idle, time.process_time(), sum(times.values())
