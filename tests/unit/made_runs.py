"""Runs, comparisons and what a report says of them, made up by the tests of figures and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.comparison.compare import Comparison, compare
from pipeline.comparison.design import REPEATED, Design
from pipeline.comparison.runs import Run, Timings
from pipeline.data.arrays import Dataset
from pipeline.report.view import Provenance, View, view
from pipeline.statistics.criteria import Criteria
from pipeline.system.provenance import Commit
from tests.unit.made_records import made_evaluation, made_training

CLASSES = (
    "cat",
    "dog | wolf",
    "<b>bird`",
    "a_b $c$ *d* [e]",
    "a very long name of a class\nindeed",
)
BASELINES = {"cnn": None, "ca_cnn": "cnn", "densenet": None, "se_densenet": "densenet"}


def made_run(
    model: str,
    seed: int,
    labels: np.ndarray,
    logits: np.ndarray,
    classes: Sequence[str] = CLASSES,
    wobble: Sequence[float] = (1.0,) * 9,
) -> Run:
    """Return a run with these answers; its costs follow from the length of the model's name."""
    epochs = np.arange(1, 6)
    history = {"epoch": epochs, "train_loss": 2 / epochs, "train_accuracy": epochs / 6}
    history |= {"validation_loss": 2 / epochs, "validation_accuracy": epochs / 6}
    history |= {"seconds": 0.5 * len(model), "learning_rate": 0.001}
    training = made_training(model=model, seed=seed, validation_accuracy=4 / 6)
    costs = {"parameters": 1000 * len(model), "macs": 10_000 * len(model)}
    metrics = made_evaluation(logits, labels, classes, **costs)
    timings = made_timings(len(model), wobble)
    return Run(model, seed, pd.DataFrame(history), training, labels, logits, metrics, timings)


def made_timings(cost: float, wobble: Sequence[float] = (1.0,) * 9) -> Timings:
    """Return what an architecture costs: all in proportion to `cost`, times `wobble` by round."""
    by_round = cost * np.array(wobble)
    return Timings(
        latencies=0.1 * by_round,
        throughputs=1000 / by_round,
        training_throughputs=500 / by_round,
        inference_memory=int(1e6 * cost),
        training_memory=int(3e6 * cost),
        device_name="made up",
        other_processes=0.0,
    )


def compared(
    baselines: Mapping[str, str | None] = BASELINES,
    seeds: int = 3,
    classes: Sequence[str] = CLASSES,
    design: Design = REPEATED,
    images: int = 200,
    wobble: Mapping[str, Sequence[float]] | None = None,
) -> Comparison:
    """Return a comparison of networks that answer by chance, most of them right.

    Runs have different test images, and different numbers of them, unless the design says that they
    have the same.
    """
    generator = np.random.default_rng(0)
    sizes = [images + (0 if design.same_images else 7 * seed) for seed in range(seeds)]
    runs = {
        model: [
            made_run(
                model,
                seed,
                labels := np.arange(size) % len(classes),
                _logits(generator, labels, len(classes)),
                classes,
                (wobble or {}).get(model, (1.0,) * 9),
            )
            for seed, size in enumerate(sizes)
        ]
        for model in baselines
    }
    architectures = {
        model: {"attention": "channel" if baseline else "none", "baseline": baseline}
        for model, baseline in baselines.items()
    }
    return compare(
        runs, architectures, tuple(classes), design, Criteria(0.95, 0.5),
        ["seeds", "architectures"],
    )  # fmt: skip


def viewed(comparison: Comparison, candidate: str, name: str = "digits") -> View:
    """Return what a report says of a comparison of runs on the same images."""
    labels = next(iter(comparison.runs.values()))[0].labels
    dataset = Dataset(
        name=name,
        images=np.zeros((len(labels), 8, 8, 1), np.uint8),
        labels=labels,
        ids=np.arange(len(labels)),
        split=np.full(len(labels), "test"),
        classes=comparison.classes,
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
        counts={},
        rejected=0,
    )
    provenance = Provenance(Commit("abc"), {"python": "3"}, "made up", 1, "")
    return view(candidate, comparison, [], {}, {}, dataset, {}, provenance, None)


def _logits(generator: np.random.Generator, labels: np.ndarray, classes: int) -> np.ndarray:
    logits = generator.normal(size=(len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 2
    return logits
