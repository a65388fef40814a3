"""What a hundred trainings took, as docs/hundred.txt tells it."""

from __future__ import annotations

import csv
import datetime
import os
import platform
import re
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from statistics import median

from pipeline.system.machine import cores, cpu_name

FILE = Path(__file__).parents[2] / "docs" / "hundred.txt"
HEAD = """\
A hundred trainings: 25 seeds of the 4 architectures of the preset `smoke`, with all that follows
from them. `make test-hundred` runs them and writes this file. The seconds of a stage are those of
`dvc repro` for it, with its waits for a core and for DVC's lock.
"""
LIBRARIES = ("torch", "dvc", "snakemake", "snakemake-executor-plugin-slurm")
UNITS = (1, 60, 3600, 86400)  # seconds in those of Slurm's DAYS-HOURS:MINUTES:SECONDS, last first
Seconds = dict[str, list[float]]  # of the jobs of each stage


def stage_seconds(folder: Path) -> Seconds:
    """The seconds in Snakemake's benchmarks: DVC and the stage, without the way to them."""
    found = defaultdict(list)
    for path in sorted(folder.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                found[path.stem.partition("_")[0]].append(float(row["s"]))
    return found


def job_seconds(jobs: dict[str, list[dict[str, str]]]) -> Seconds:
    """The seconds in Slurm's record: Snakemake within the job as well."""
    found = defaultdict(list)
    for rule, tries in jobs.items():
        for job in tries:
            numbers = reversed(re.findall(r"\d+", job["RunTime"]))
            seconds = sum(int(number) * unit for number, unit in zip(numbers, UNITS, strict=False))
            found[rule.partition("_")[0]].append(seconds)
    return found


def table(taken: Seconds, heading: str) -> str:
    """A line for each stage, those that take longest together first."""
    lines = [f"    {heading:<30}{'jobs':>6}{'median':>10}{'longest':>10}{'together':>10}"]
    for stage, seconds in sorted(taken.items(), key=lambda item: -sum(item[1])):
        lines.append(
            f"    {stage:<30}{len(seconds):>6}{median(seconds):>8.1f} s{max(seconds):>8.1f} s"
            f"{sum(seconds):>8.0f} s"
        )
    return "\n".join(lines)


def surroundings() -> str:
    """The day, the machine, what else it does, and the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"    {datetime.date.today()}, {cpu_name()}, {cores()} cores, "
        f"load {os.getloadavg()[0]:.1f} when it began, niceness {os.nice(0)}\n"
        f"    Python {platform.python_version()}, {versions}"
    )


def write(title: str, text: str) -> None:
    """Put a way to run them into the file, in the place of what it says of it."""
    written = FILE.read_text(encoding="utf-8").split("\n== ")[1:] if FILE.exists() else []
    sections = {section.partition("\n")[0]: section for section in written}
    sections[title] = f"{title}\n\n{text.rstrip()}\n"
    FILE.write_text("\n== ".join([HEAD, *sections.values()]), encoding="utf-8")
