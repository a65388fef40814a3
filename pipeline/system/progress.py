"""Progress that suits where it goes: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_PROGRESS_LINES = 20.0


def say(text: str) -> None:
    """Print one plain line to standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def track(iterable: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items of `iterable` and show how far it is.

    Args:
        iterable: what to go through.
        description: what is being done, in a few words.
        total: the number of items, where `iterable` has no length.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        console = Console(stderr=True)
        yield from rich_track(iterable, description, total=total, console=console, transient=True)
        return
    suffix = f"/{total}" if total else ""
    last = time.monotonic()
    for done, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            say(f"{description}: {done}{suffix}")
            last = now


class Steps:
    """Progress of work that reports its own steps: a bar with rate and remaining time, or lines."""

    def __init__(self, bar: Progress | None, task: TaskID | None, total: int, unit: str) -> None:
        self._bar = bar
        self._task = task
        self._total = total
        self._unit = unit
        self._done = 0
        self._skipped = 0
        self._began = self._last = time.monotonic()

    @classmethod
    @contextlib.contextmanager
    def over(cls, total: int, unit: str) -> Iterator[Steps]:
        """Show progress over `total` units of work, such as images."""
        if not sys.stderr.isatty():
            yield cls(None, None, total, unit)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield cls(bar, bar.add_task("", total=total, rate=""), total, unit)

    def advance(self, description: str, amount: int) -> None:
        """Count `amount` more units, and say what is being done."""
        self._done += amount
        now = time.monotonic()
        rate = f"{self._done / max(now - self._began, 1e-9):,.0f} {self._unit}/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=amount, description=description, rate=rate)
        elif now - self._last >= SECONDS_BETWEEN_PROGRESS_LINES:
            say(f"{description}: {(self._skipped + self._done) / self._total:.0%} of all, {rate}")
            self._last = now

    def skip(self, amount: int) -> None:
        """Count `amount` units that were done before; they don't count for the rate."""
        self._skipped += amount
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=amount)

    def line(self, text: str) -> None:
        """Print a line that stays, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            say(text)
        self._last = time.monotonic()
