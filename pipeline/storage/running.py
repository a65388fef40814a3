"""What a training that runs shows of itself, beside its checkpoints, to those who watch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.storage.atomic import atomic_file, write_json

PLAN, HISTORY = "training.json", "history.csv"
FINISHED = "finished"  # a file that stays beside checkpoints until the evaluation


@dataclass(frozen=True)
class Running:
    """A training that runs, or was interrupted."""

    run: str  # ``<model>-<seed>``
    began: float  # seconds of `time.time`, as is `changed`
    changed: float  # when its last epoch ended, or it began
    epochs: int  # of all
    images: int  # of each epoch
    history: list[dict[str, float]]  # the rows of ``history.csv`` so far, see `training.loop.Epoch`

    @property
    def seconds_an_epoch(self) -> float:
        """The mean of the last epochs; NaN before the first has ended."""
        last = [row["seconds"] for row in self.history[-5:]]
        return sum(last) / len(last) if last else float("nan")

    @property
    def rate(self) -> float:
        """Images a second in the last epochs; NaN before the first has ended."""
        return self.images / self.seconds_an_epoch


def begin(folder: Path, epochs: int, images: int) -> None:
    """Note how long a training will be, and that it hasn't finished.

    It goes on without, where that can't be written.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FINISHED).unlink(missing_ok=True)  # of one whose checkpoints can't be read
        write_json(folder / PLAN, {"epochs": epochs, "images": images})


@contextmanager
def growing(folder: Path) -> Iterator[Path]:
    """Yield a path to write the history so far to; what can't be written there is left out."""
    with suppress(OSError), atomic_file(folder / HISTORY) as staging:
        yield staging


def read(checkpoints: Path) -> list[Running]:
    """Return the unfinished trainings, in the order in which they began.

    `checkpoints` is the folder of all, where each has one of its own.
    """
    found = []
    for plan in checkpoints.glob(f"*-*/{PLAN}"):
        if plan.with_name(FINISHED).exists():
            continue
        with suppress(OSError, ValueError, TypeError):  # it has ended meanwhile, or is corrupt
            began = plan.stat().st_mtime
            content = json.loads(plan.read_text("utf-8"))
            rows, changed = [], began
            with suppress(FileNotFoundError):  # no epoch has ended
                path = plan.with_name(HISTORY)
                with path.open(encoding="utf-8", newline="") as file:
                    rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
                changed = max(began, path.stat().st_mtime)
            name = plan.parent.name.rpartition("-")[0]
            found.append(Running(name, began, changed, **content, history=rows))
    return sorted(found, key=lambda training: (training.began, training.run))
