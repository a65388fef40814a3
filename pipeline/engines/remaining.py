"""How long a run will still take, from what its stages have taken so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from pipeline.storage.running import Running
from pipeline.system.formats import duration


@dataclass(frozen=True)
class UnderWay:
    """A stage that runs now."""

    stage: str  # its address in DVC, such as ``train@cnn-0``
    seconds: float  # since it began
    training: Running | None  # how far that is

    @property
    def epochs_left(self) -> float | None:
        """Seconds of the epochs to come, None before the first has ended or if it has none."""
        if self.training is None or not self.training.history:
            return None
        left = self.training.epochs - len(self.training.history)
        return left * self.training.seconds_an_epoch


def remaining(
    took: Mapping[str, float], under_way: Sequence[UnderWay], waiting: Sequence[str]
) -> str:
    """Return such as ``about 12.5 min left``, or nothing where nothing has been measured.

    What is left is shared out among as many jobs as run now. A stage is expected to take the mean
    of those that differ from it in the seed, else of those of other architectures; where there are
    none either, the time is the least.

    Args:
        took: the seconds of each stage that has ended.
        under_way: what runs now.
        waiting: what was not begun.
    """
    known = dict(took)
    for each in under_way:
        if each.training is not None and each.epochs_left is not None:
            known[each.stage] = each.training.epochs * each.training.seconds_an_epoch

    def expected(stage: str) -> float | None:
        for alike in (_without_seed, _without_architecture):
            if seconds := [known[other] for other in known if alike(other) == alike(stage)]:
                return mean(seconds)
        return None

    to_come = [expected(stage) for stage in waiting]
    left = sum(filter(None, to_come))
    for each in under_way:
        if each.epochs_left is not None:
            left += each.epochs_left
        else:
            left += max(0.0, (expected(each.stage) or 0.0) - each.seconds)
    if not left:
        return ""
    about = "at least" if None in to_come else "about"
    return f"{about} {duration(left / max(1, len(under_way)))} left"


def _without_seed(stage: str) -> str:
    return stage.rpartition("-")[0] or stage


def _without_architecture(stage: str) -> str:
    return stage.partition("@")[0]
