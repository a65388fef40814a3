"""The clock of all benchmarks: two ways to do one thing take turns.

A machine that slows down slows both, so what counts is the ratio or difference of each turn; shown
are the median of the turns, the lowest and the highest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context


@dataclass(frozen=True)
class Turns:
    """What both measured in each turn, in the same unit."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def ratios(self) -> tuple[float, ...]:
        """Return ours / theirs of each turn."""
        return tuple(our / their for our, their in zip(self.ours, self.theirs, strict=True))

    def inverse_ratios(self) -> tuple[float, ...]:
        """Return theirs / ours of each turn: how many times as fast, if these are seconds."""
        return Turns(self.theirs, self.ours).ratios()

    def differences(self) -> tuple[float, ...]:
        """Return ours - theirs of each turn."""
        return tuple(our - their for our, their in zip(self.ours, self.theirs, strict=True))


def take_turns(ours: Callable[[], float], theirs: Callable[[], float], turns: int) -> Turns:
    """Measure both `turns` times; each is the first in every second turn."""
    measured: dict[Callable[[], float], list[float]] = {ours: [], theirs: []}
    for turn in range(turns):
        for measure in (theirs, ours) if turn % 2 else (ours, theirs):
            measured[measure].append(measure())
    return Turns(tuple(measured[ours]), tuple(measured[theirs]))


def in_a_process(work: Callable[..., float], *arguments: object) -> Callable[[], float]:
    """Return what measures in a new process each time.

    The same training is up to a fifth faster in one process than in the next, to its end: the turns
    of a single process look alike and are off together.

    Args:
        work: a function of a module.
        arguments: what it takes.
    """

    def measure() -> float:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(partial(work, *arguments)).result()

    return measure


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
