"""Experiments whose truth is known: pairs of networks, several seeds each, on drawn test images.

``python -m tests.unit.simulated_gains`` prints the table of docs/statistics.md, in about a
quarter of an hour on one core.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import numpy as np
from scipy import stats

from pipeline.statistics.gain import Gain, folds_gain, trained_gain

MARGIN = 0.5
IMAGES = (360, 1000, 10_000)
SPREADS = (0.1, 0.3, 0.5, 1.0)  # standard deviation of the gain between seeds, points
POPULATION = 2**16

Draw = np.random.Generator
Layout = Literal["seeds", "folds"]
LAYOUTS: tuple[tuple[Layout, int], ...] = (("seeds", 3), ("seeds", 5), ("seeds", 8), ("folds", 5))


@dataclass(frozen=True)
class World:
    """A population of test images, and how two architectures fare on it.

    Each image has a chance p of a right answer for each architecture, Beta distributed with the
    mean `accuracy`, so that a mean of p (1 - p) is 45 % of what it is where all images are alike:
    networks that are 85 % right then differ in 12 % of the images, as trained ones do. A seed moves
    p by a multiple of p (1 - p), so that a network's true accuracy is normal over seeds.
    """

    accuracy: float
    own: float  # share of the images whose p is drawn for each architecture alone
    candidate: float  # the candidate's share of the variance between seeds
    together: float = 0.0  # the correlation of both networks' accuracies over seeds
    p: np.ndarray = field(init=False, repr=False)  # float32 (2, POPULATION)
    move: float = field(init=False, repr=False)  # mean of p (1 - p)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        alike = 0.45
        total = alike / (1 - alike)
        quantiles = (np.arange(POPULATION) + 0.5) / POPULATION
        p = stats.beta.ppf(quantiles, self.accuracy * total, (1 - self.accuracy) * total)
        both = np.stack([generator.permutation(p)] * 2).astype(np.float32)
        own = np.flatnonzero(generator.random(POPULATION) < self.own)
        both[1, own] = generator.permutation(both[1, own])
        object.__setattr__(self, "p", both)
        object.__setattr__(self, "move", float((both[0] * (1 - both[0])).mean()))

    def experiment(
        self, layout: Layout, seeds: int, images: int, gain: float, spread: float, draw: Draw
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return whether candidate and baseline were right, bool (seeds, images of one seed).

        The true gain and the spread of the gain are in points. Of all `images`, each of so many
        folds has its part; their true gains are correlated by 1 / folds, as Nadeau and Bengio have
        it for folds that share training images.
        """
        normal = draw.normal(size=(2, seeds))
        if layout == "folds":
            shared = math.sqrt(1 / seeds) * draw.normal(size=(2, 1))
            normal = shared + math.sqrt(1 - 1 / seeds) * normal
            images //= seeds
        normal[1] = self.together * normal[0] + math.sqrt(1 - self.together**2) * normal[1]
        # no further than p can move, in both directions alike
        room = self.move - abs(gain) / 100
        shares = np.sqrt([[self.candidate], [1 - self.candidate]])
        own = spread / math.sqrt(1 - 2 * self.together * math.prod(shares.flat)) * shares
        moved = np.clip(own / 100 * normal, -room, room)
        moved[0] += gain / 100
        drawn = (seeds, images) if layout == "folds" else (1, images)
        chosen = draw.integers(0, POPULATION, drawn, dtype=np.int32)
        right = []
        for p, moves in zip(self.p, moved.astype(np.float32) / self.move, strict=True):
            known = p[chosen]
            chances = known + moves[:, None] * (known * (1 - known))
            right.append(draw.random((seeds, images), dtype=np.float32) < chances)
        return right[0], right[1]


# In the order of the table. Where 98 % are right, p can't move by the largest spread.
WORLDS = {
    "85 % right, equal spread": World(0.85, own=0.05, candidate=0.5),
    "85 % right, only the candidate varies": World(0.85, own=0.02, candidate=1.0),
    "93 % right, only the candidate varies": World(0.93, own=0.02, candidate=1.0),
    "70 % right, images differ much in their gain": World(0.70, own=0.3, candidate=0.5),
    "95 % right, images differ much in their gain": World(0.95, own=0.3, candidate=0.9),
    "98 % right, only the candidate varies": World(0.98, own=0.1, candidate=1.0),
    "85 % right, seeds go together": World(0.85, own=0.05, candidate=0.5, together=0.9),
    "85 % right, seeds oppose": World(0.85, own=0.05, candidate=0.5, together=-0.6),
}


@dataclass(frozen=True)
class Cell:
    """One set of conditions."""

    world: str
    layout: Layout
    seeds: int
    images: int
    spread: float


@dataclass(frozen=True)
class Rates:
    """What many experiments of one cell came to, shares in [0, 1]."""

    experiments: int
    too_high: float  # the whole interval above the true gain
    too_low: float  # below it
    lucky: float  # runs that agreed by luck: between-run mean square below the residual's
    lucky_errors: float  # of these, those in error on either side; NaN where there is none
    better: float  # the whole interval above 0

    @property
    def coverage(self) -> float:
        return 1 - self.too_high - self.too_low


def cells(worlds: tuple[str, ...] = tuple(WORLDS)) -> Iterator[Cell]:
    """Yield every cell of the acceptance, in every world that can have it."""
    for world, images, spread in product(worlds, IMAGES, SPREADS):
        if not (WORLDS[world].accuracy > 0.97 and spread > 0.5):
            for layout, seeds in LAYOUTS:
                yield Cell(world, layout, seeds, images, spread)


def gains_of(
    world: World, cell: Cell, true_gain: float, experiments: int
) -> Iterator[tuple[Gain, bool]]:
    """Yield the gain of each experiment, and whether its runs agreed by luck."""
    draw = np.random.Generator(np.random.SFC64([cell.seeds, cell.images, int(100 * cell.spread)]))
    for _ in range(experiments):
        candidate, baseline = world.experiment(
            cell.layout, cell.seeds, cell.images, true_gain, cell.spread, draw
        )
        # a mean square between runs is the number of images of each times the variance of means
        if cell.layout == "folds":
            differences = candidate.astype(np.int8) - baseline
            gain = folds_gain(list(differences))
            by_fold = np.array(gain.gain_by_seed)
            squares = 100**2 * (differences != 0).mean(axis=1) - by_fold**2
            size = differences.shape[1]
            lucky = size * by_fold.var(ddof=1) < size / (size - 1) * squares.mean()
        else:
            gain = trained_gain(candidate, baseline)
            assert gain.components is not None
            lucky = cell.images * gain.sd_between_seeds**2 < gain.components.residual
        yield gain, bool(lucky)


@functools.cache
def simulated(cell: Cell, true_gain: float, experiments: int) -> Rates:
    """Run experiments of a cell with this true gain in points."""
    return rates(WORLDS[cell.world], cell, true_gain, experiments)


def rates(world: World, cell: Cell, true_gain: float, experiments: int) -> Rates:
    """Run experiments of any world."""
    found = list(gains_of(world, cell, true_gain, experiments))
    low, high = np.array([(gain.low, gain.high) for gain, _ in found]).T
    lucky = np.array([agreed for _, agreed in found])
    wrong = (low > true_gain) | (high < true_gain)
    return Rates(
        experiments,
        too_high=float((low > true_gain).mean()),
        too_low=float((high < true_gain).mean()),
        lucky=float(lucky.mean()),
        lucky_errors=float(wrong[lucky].mean()) if lucky.any() else math.nan,
        better=float((low > 0).mean()),
    )


def main() -> None:
    """Print the worst of each world's cells for each number of seeds."""
    experiments = 2000
    columns = (
        "world",
        "runs",
        "false *pays* or *better*",
        "false *does not pay*",
        "coverage",
        "errors where runs agreed by luck",
    )
    print("| " + " | ".join(columns) + " |")
    print("| :-- | :-- |" + " --: |" * (len(columns) - 2))
    for world, (layout, seeds) in product(WORLDS, LAYOUTS):
        of_row = [cell for cell in cells((world,)) if (cell.layout, cell.seeds) == (layout, seeds)]
        none = [simulated(cell, 0.0, experiments) for cell in of_row]
        margin = [simulated(cell, MARGIN, experiments) for cell in of_row]
        both = (*none, *margin)
        lucky = [found.lucky_errors for found in both if found.lucky >= 0.05 and seeds >= 5]
        row = (
            world,
            f"{seeds} {layout}",
            f"{100 * max(found.too_high for found in none):.2f} %",
            f"{100 * max(found.too_low for found in margin):.2f} %",
            f"{100 * min(found.coverage for found in both):.1f} %",
            f"{100 * max(lucky):.1f} %" if lucky else "",
        )
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
