"""What DVC and Snakemake add to the stages, and what starting takes."""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.line import Line, Mark, in_seconds
from benchmarks.project import ROOT, CommandFailedError, Project, checkout, smoke_project
from benchmarks.timing import take_turns
from pipeline.system.machine import cores

MODELS = ("cnn", "ca_cnn", "densenet", "se_densenet")
FEW, MANY = 16, 100  # runs: 4 and 25 seeds of four architectures
LINEAR = Mark("at most", 1, "")
REAL = ("download", "split")  # stages that are run, where the others' outputs are made up
MADE_UP = ("model.safetensors", "metrics.json", "history.csv")


def stage() -> Iterator[Line]:
    """Measure one evaluate stage bare, under DVC and under Snakemake."""
    with smoke_project(seeds=1) as project:
        project.output("snakemake", "--cores", str(cores()), "data/evaluated/cnn/0")
        fresh = count(257)

        def stale() -> None:
            """Make the stage stale: a value of its settings that never was."""
            number = next(fresh)
            project.edit(f"batch_size: {number - 1} ", f"batch_size: {number} ")

        def timed(*command: str) -> Callable[[], float]:
            def seconds() -> float:
                stale()
                return project.seconds(*command)

            return seconds

        bare = timed(*project.pipeline("evaluate", "--model", "cnn", "--seed", "0"))
        dvc = timed("dvc", "repro", "--single-item", "dvc.yaml:evaluate@cnn-0")
        snakemake = timed("snakemake", "--cores", "1", "data/evaluated/cnn/0")
        under_dvc = take_turns(dvc, bare, 3)
        under_snakemake = take_turns(snakemake, bare, 3)
    bare_stage = "the bare `python -m pipeline evaluate`"
    yield Line(
        "a stage under `dvc repro --single-item`",
        in_seconds(under_dvc.ours),
        f"{bare_stage}: {in_seconds(under_dvc.theirs)}",
        under_dvc.differences(),
        Mark("at most", 2, " s more"),
        "DVC is imported, reads dvc.yaml and params.yaml and takes checksums of what changed.",
    )
    yield Line(
        "the same stage under `snakemake`",
        in_seconds(under_snakemake.ours),
        f"{bare_stage}: {in_seconds(under_snakemake.theirs)}",
        under_snakemake.differences(),
        Mark("at most", 2, " s more"),
        "Snakemake starts once, with DVC's graph, for all stages of a run; for each of them it "
        "starts `dvc repro`, which is the line above.",
    )


def nothing_to_do() -> Iterator[Line]:
    """Measure both engines on a finished project of 16 and of 100 runs."""
    times: dict[str, dict[int, tuple[float, ...]]] = {"snakemake": {}, "dvc": {}}
    for runs in (FEW, MANY):
        with finished_project(runs) as project:
            turns = take_turns(
                lambda project=project: project.seconds("snakemake", "-n"),  # type: ignore[misc]
                lambda project=project: project.seconds("dvc", "status"),  # type: ignore[misc]
                3,
            )
        times["snakemake"][runs], times["dvc"][runs] = turns.ours, turns.theirs
    for command, engine in (("snakemake -n", "snakemake"), ("dvc status", "dvc")):
        for runs, limit in ((FEW, 4), (MANY, 12)):
            yield Line(
                f"`{command}` with nothing to do",
                in_seconds(times[engine][runs]),
                f"a finished project of {runs} runs",
                times[engine][runs],
                Mark("at most", limit, " s"),
                "The engine is imported first; then each stage's files are compared with what "
                "dvc.lock says, by size and time where DVC knows them, else by checksum.",
            )
        few, many = (median(times[engine][runs]) for runs in (FEW, MANY))
        yield Line(
            f"growth of `{command}`",
            f"{few:.2f} s to {many:.2f} s",
            f"{FEW} to {MANY} runs: exponent of time in runs",
            (growth_exponent(few, many, MANY / FEW),),
            LINEAR,
            "Below 1, since starting takes its time whatever the number of runs.",
        )


def growth_exponent(before: float, after: float, larger: float) -> float:
    """Return p where `after` is `before` times `larger` to the power of p: 1 is linear."""
    return math.log(after / before) / math.log(larger)


def starting() -> Iterator[Line]:
    """Measure what a command takes that doesn't compute."""
    for arguments in (("--help",), ("check",)):
        project = Project(ROOT)
        command = project.pipeline(*arguments)
        times = tuple(project.seconds(*command) for _ in range(7))
        yield Line(
            f"`python -m pipeline {arguments[0]}`",
            in_seconds(times),
            "",
            times,
            Mark("at most", 0.5, " s"),
            "pydantic, typer and the YAML parser are imported; PyTorch and NumPy are not.",
        )


def compare() -> Iterator[Line]:
    """Measure the comparison of five seeds on 10,000 test images of ten classes."""
    generator = np.random.default_rng(0)
    files = {role: [f"{role}{seed}.npy" for seed in range(5)] for role in ("candidate", "baseline")}
    with TemporaryDirectory() as folder:
        np.save(f"{folder}/labels.npy", generator.integers(0, 10, 10_000))
        arguments = ["--labels", f"{folder}/labels.npy", "--json"]
        for role, names in files.items():
            arguments.append(f"--{role}")
            for name in names:
                np.save(f"{folder}/{name}", generator.normal(size=(10_000, 10)))
                arguments.append(f"{folder}/{name}")
        project = Project(ROOT)
        command = project.pipeline("compare", *arguments)
        times = tuple(project.seconds(*command) for _ in range(7))
    yield Line(
        "`python -m pipeline compare`",
        in_seconds(times),
        "five seeds of two networks, logits of 10,000 images in 10 classes",
        times,
        Mark("at most", 2, " s"),
        "NumPy and a part of SciPy are imported; PyTorch and pandas are not.",
    )


def default_run() -> Iterator[Line]:
    """Measure `make` in a fresh checkout, the installation done."""
    with checkout() as project:
        installed = f"{sys.prefix}/.installed"
        command = ("make", f"VENV={sys.prefix}", f"--old-file={installed}")
        minutes = project.seconds(*command) / 60
        by_stage = seconds_by_stage(project.root / "benchmarks")
    total = sum(by_stage.values())
    shown = ", ".join(f"{name} {spent:.0f} s" for name, spent in by_stage.items())
    yield Line(
        "the default run, `make` after the installation",
        f"{minutes:.2f} min",
        f"{cores()} cores",
        (minutes,),
        Mark("at most", 3, " min"),
        f"Seconds of all jobs of a stage, several at a time: {shown}; {total:.0f} s together. The "
        f"checks before and the summary after them are in the {minutes * 60:.0f} s as well.",
    )


def seconds_by_stage(folder: Path) -> dict[str, float]:
    """Return the time of all jobs of each stage, the longest first, from Snakemake's benchmarks."""
    total: defaultdict[str, float] = defaultdict(float)
    for path in sorted(folder.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                total[path.stem.partition("_")[0]] += float(row["s"])
    return dict(sorted(total.items(), key=lambda item: -item[1]))


@contextmanager
def finished_project(runs: int) -> Iterator[Project]:
    """Yield a project of so many runs in which all stages are done, as both engines see it.

    Images are divided as usual. What trainings and all after them leave is made up: small files,
    each with contents of its own.
    """
    with smoke_project(seeds=runs // len(MODELS)) as project:
        for name in REAL:
            project.output(*project.pipeline(name))
        for out in outputs(project):
            make_up(project.root / out)
        project.output("dvc", "commit", "--force", "--quiet")
        project.output("snakemake", "--cores", "1", "--touch", "--quiet", "all")
        project.output("dvc", "status")
        if "Nothing to be done" not in project.output("snakemake", "-n"):
            raise CommandFailedError("snakemake finds something to do in a finished project")
        yield project


def outputs(project: Project) -> list[Path]:
    """Return what the stages after the split write, relative to the project."""
    from pipeline.engines import dvc_state

    return [
        Path(out.fs_path).relative_to(project.root.resolve())
        for stage in dvc_state.read_graph(dvc_state.open_repo(project.root))
        for out in stage.outs
        if stage.addressing not in REAL
    ]


def make_up(output: Path) -> None:
    """Write something in place of an output: folders, which have no suffix, get some files."""
    paths = [output] if output.suffix else [output / name for name in MADE_UP]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"made up: {path}\n", encoding="utf-8")
