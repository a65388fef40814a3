"""How busy the machine is, with real processes."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from pipeline.system.machine import BUSY, OtherProcesses


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_busy_machine_is_noticed() -> None:
    loop = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(loop) for _ in range(psutil.cpu_count() or 1)]
    try:
        others = OtherProcesses()
        work(0.5)
        assert others.share() > BUSY  # as many processes as cores leave this one no more than half
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_own_work_is_not_that_of_others() -> None:
    before = psutil.cpu_times()
    others = OtherProcesses()
    work(0.5)
    share = others.share()
    now = psutil.cpu_times()
    seconds = sum(now[:8]) - sum(before[:8])  # without the guests', which are counted twice
    assert 0 <= share <= 1 - (0.5 - 0.1) / seconds
