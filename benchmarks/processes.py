"""Whole train stages in processes of their own: their memory, and two of them at a time."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.line import Line, Mark, at_rate
from benchmarks.networks import CLASSES
from benchmarks.project import ROOT, Project
from benchmarks.timing import take_turns
from pipeline.data import writing
from pipeline.data.collection import Collection
from pipeline.data.splitting import Division
from pipeline.settings import presets

CIFAR10 = {"train": 45_000, "validation": 5_000, "test": 10_000}
SHORT = {"train": 3_200, "validation": 256, "test": 256}
EPOCHS = 5  # of a short training; the first and the last are not timed, since one job may be alone


class Workplace:
    """A folder with the splits of random images and settings to train on them."""

    def __init__(self, folder: Path, sizes: dict[str, int], epochs: int) -> None:
        self.folder = folder
        self.images = sizes["train"]
        self.params = folder / "params.yaml"
        preset = presets.text("cifar10")
        self.params.write_text(
            preset.replace("epochs: 50 ", f"epochs: {epochs} "), encoding="utf-8"
        )
        self.splits = folder / "splits"
        self.splits.mkdir()
        self.image_bytes = write_splits(self.splits, sizes)

    def command(self, seed: int) -> tuple[str, ...]:
        """Return the command line of a training of `ca_cnn`."""
        options = {
            "--model": "ca_cnn",
            "--seed": str(seed),
            "--params": str(self.params),
            "--splits": str(self.splits),
            "--out": str(self.folder / f"trained-{seed}"),
            "--checkpoints": str(self.folder / "checkpoints"),
        }
        stage = (sys.executable, "-m", "pipeline", "train")
        return (*stage, *(part for option in options.items() for part in option))

    def images_per_second(self, jobs: int) -> float:
        """Train so many at a time, and return the sum of their speeds."""
        with ThreadPoolExecutor(jobs) as threads:
            list(threads.map(lambda seed: Project(ROOT).output(*self.command(seed)), range(jobs)))
        return sum(self._speed(seed) for seed in range(jobs))

    def _speed(self, seed: int) -> float:
        history = self.folder / f"trained-{seed}" / "history.csv"
        with history.open(encoding="utf-8", newline="") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
        return self.images / median(seconds[1:-1])


@contextmanager
def workplace(sizes: dict[str, int], epochs: int) -> Iterator[Workplace]:
    """Yield a workplace in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield Workplace(Path(folder), sizes, epochs)


def write_splits(folder: Path, sizes: dict[str, int]) -> int:
    """Write random images as the split stage would, and return the size of their array."""
    count = sum(sizes.values())
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    split = np.repeat(list(sizes), list(sizes.values()))
    writing.write(
        folder,
        "cifar10",
        Collection(
            images=images,
            labels=np.arange(count) % CLASSES,
            classes=tuple(f"class {number}" for number in range(CLASSES)),
            ids=np.arange(count),
            origins=[f"random#{number}" for number in range(count)],
        ),
        Division(rows=np.arange(count), split=split),
        image_size=None,
        normalisation="training",
    )
    return images.nbytes


def memory() -> Iterator[Line]:
    """Measure the peak memory of a training on as many images as CIFAR-10 has."""
    with workplace(CIFAR10, epochs=1) as place:
        peak = Project(ROOT).peak_bytes(*place.command(0))
        arrays = place.image_bytes
    yield Line(
        "peak memory of training `ca_cnn` on CIFAR-10",
        f"{peak / 1e9:.2f} GB",
        f"the uint8 images: {arrays / 1e9:.2f} GB",
        (peak / 1e9,),
        Mark("at most", 1.5, " GB"),
        "PyTorch's libraries, the images as they are mapped from the file (shared by all jobs), an "
        "epoch's draws, and what a step keeps for its backward pass.",
    )


def side_by_side() -> Iterator[Line]:
    """Measure two trainings at a time, one thread each, against one alone."""
    with workplace(SHORT, EPOCHS) as place:
        turns = take_turns(
            lambda: place.images_per_second(2), lambda: place.images_per_second(1), 3
        )
    yield Line(
        "two trainings of `ca_cnn` side by side, 1 thread each",
        f"{at_rate(turns.ours)} together",
        f"one alone: {at_rate(turns.theirs)}",
        turns.ratios(),
        Mark("at least", 1.6, " times"),
        "The two share the memory's bandwidth and the caches, and two hardware threads may be one "
        "core.",
    )
