"""The learning curves of the trainings that run, in the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.storage import running
from pipeline.storage.running import Running
from pipeline.system.formats import duration

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 60
SECONDS_OF_SILENCE = 60.0  # besides those of three epochs, after which one is told of


def watch(checkpoints: Path) -> None:
    """Show the unfinished trainings: on a terminal until Ctrl-C, else once.

    Args:
        checkpoints: the folder of the checkpoints of all trainings, on this machine or on a disk
            that it shares with the one that trains.
    """
    console = Console()
    if not console.is_terminal:
        console.print(_shown(checkpoints, console.width))
        return
    with (
        suppress(KeyboardInterrupt),
        Live(
            get_renderable=lambda: _shown(checkpoints, console.width),
            console=console,
            refresh_per_second=1,
        ),
    ):
        while True:
            time.sleep(1)


def _shown(checkpoints: Path, width: int) -> RenderableType:
    trainings = running.read(checkpoints)
    if not trainings:
        return Text(f"no training is under way: {checkpoints} has no checkpoints of one")
    return Group(*(_curves(training, width) for training in trainings))


def _curves(training: Running, width: int) -> RenderableType:
    done, history = len(training.history), training.history
    facts = [f"epoch {min(done + 1, training.epochs)}/{training.epochs}"]
    if done:
        facts.append(f"{training.rate:,.0f} images/s")
        if done < training.epochs:
            left = (training.epochs - done) * training.seconds_an_epoch
            facts.append(f"about {duration(left)} left")
    silence = time.time() - training.changed
    if done and silence > 3 * training.seconds_an_epoch + SECONDS_OF_SILENCE:
        facts.append(f"no epoch has ended for {duration(silence)}")
    parts: list[RenderableType] = [Text(f"{training.run}   {',  '.join(facts)}", style="bold")]
    if done:
        table = Table.grid(padding=(0, 2))
        bars = max(10, min(MOST_BARS, width - 60))
        accuracies = [row["validation_accuracy"] for row in history]
        best = max(range(done), key=accuracies.__getitem__)
        table.add_row(
            "  validation accuracy",
            _bars(accuracies, training.epochs, bars),
            f"{accuracies[-1]:.2%}, best {accuracies[best]:.2%} in epoch {best + 1}",
        )
        for name in ("validation_loss", "train_loss"):
            losses = [row[name] for row in history]
            table.add_row(
                f"  {name.replace('train_', 'training ').replace('_', ' ')}",
                _bars(losses, training.epochs, bars),
                f"{losses[-1]:.4f}, least {min(losses):.4f} in epoch "
                f"{losses.index(min(losses)) + 1}",
            )
        parts.append(table)
    return Group(*parts, Text())


def _bars(values: Sequence[float], epochs: int, most: int) -> str:
    """Return a curve of at most so many bars over all epochs, from its least to its largest."""
    width = min(epochs, most)
    low, high = min(values), max(values)
    bars = []
    for place in range(width):
        first, end = place * epochs // width, (place + 1) * epochs // width
        if end > len(values):  # not all of its epochs have ended
            break
        value = sum(values[first:end]) / (end - first)
        share = (value - low) / (high - low) if high > low else 0.0
        bars.append(BARS[round(share * (len(BARS) - 1))])
    return "".join(bars).ljust(width, "·")
