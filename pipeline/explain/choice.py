"""Which test images and which layers are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def choose_images(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose positions in `labels`, int64 (N,), of different classes while there are any left.

    The choice depends on nothing but the arguments, so it is the same for every architecture.

    Returns:
        int64 (count,), ordered by class; fewer if there are fewer images.
    """
    generator = np.random.default_rng(seed)
    queues = [generator.permutation(np.flatnonzero(labels == name)) for name in np.unique(labels)]
    order = generator.permutation(len(queues))
    rounds = range(max((len(queue) for queue in queues), default=0))
    in_turn = [queues[which][r] for r in rounds for which in order if r < len(queues[which])]
    chosen = np.array(in_turn[:count], dtype=np.int64)
    return chosen[np.argsort(labels[chosen], kind="stable")]


def any_images(total: int, count: int, seed: int) -> np.ndarray:
    """Choose positions among `total` images at random, all of them equally likely.

    Returns:
        int64 (min(count, total),), ascending.
    """
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(total, min(count, total), replace=False))


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` of `items`, evenly spread from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(p)] for p in np.linspace(0, len(items) - 1, most)]
