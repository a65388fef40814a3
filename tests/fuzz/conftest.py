"""How much is tried: a little in every test run, drawn alike each time; a campaign on request."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

EVERYDAY, CAMPAIGN = "everyday", "campaign"
RECORD = Path(__file__).parents[2] / "docs" / "fuzzing.txt"
LIBRARIES = ("hypothesis", "torch", "pydantic", "ruamel.yaml", "pillow", "numpy", "safetensors")

settings.register_profile(
    EVERYDAY,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    CAMPAIGN,
    settings.get_profile(EVERYDAY),
    derandomize=False,
    print_blob=True,
)
settings.load_profile(os.environ.get("FUZZING", EVERYDAY))


class TooSlowError(BaseException):
    """An input took more of the processor's time than any may; nothing that handles errors does."""


@contextmanager
def processor_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block when this process has worked on it for so many seconds."""

    def interrupt(_number: int, _frame: object) -> None:
        raise TooSlowError(f"more than {seconds} seconds of the processor's time")

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Outcomes:
    """Counts what became of the examples, by what was tried and how it ended."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.began = time.perf_counter()

    def add(self, tried: str, ended: str) -> None:
        self.counts[tried, ended] += 1

    def table(self) -> str:
        """Return a line for each outcome, under the total of what was tried."""
        lines = []
        for tried in dict.fromkeys(tried for tried, _ in self.counts):
            ends = {end: count for (name, end), count in self.counts.items() if name == tried}
            lines.append(f"{sum(ends.values()):>7,} {tried}")
            lines += [f"    {count:>7,} {end}" for end, count in Counter(ends).most_common()]
        return "\n".join(lines)


@pytest.fixture(scope="session")
def outcomes() -> Iterator[Outcomes]:
    """What became of the examples; a campaign writes it to docs/fuzzing.txt."""
    counted = Outcomes()
    yield counted
    if os.environ.get("FUZZING") != CAMPAIGN:
        return
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    RECORD.write_text(
        "The recorded fuzzing campaign. `make fuzz` repeats it with other draws.\n\n"
        f"{counted.table()}\n\n"
        f"{time.perf_counter() - counted.began:,.0f} seconds, Python {platform.python_version()}, "
        f"{versions}\n",
        encoding="utf-8",
    )
