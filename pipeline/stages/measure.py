"""Measure what the architectures cost, all of them in one process, in turns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.data import arrays
from pipeline.engines.unchanged import made_from
from pipeline.evaluation import cost
from pipeline.settings.schema import Settings
from pipeline.statistics.cost_ratio import ROUNDS
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder
from pipeline.system.machine import BUSY, OtherProcesses
from pipeline.system.progress import say, track
from pipeline.training import compute
from pipeline.training.batches import PIXELS_AT_ONCE, plain_batches, to_device
from pipeline.training.learner import Learner
from pipeline.training.networks import fresh
from pipeline.training.no_compiler import without_compiler

ENDLESS = 1_000_000  # epochs of a schedule, so that these steps don't reach its end


@dataclass(frozen=True)
class Turn:
    """What an architecture cost in one round."""

    latencies: np.ndarray  # float64 (repeats,), ms
    throughput: float  # images per second
    training_throughput: float  # the same


def run(settings: Settings, splits: Path, out: Path) -> None:
    """Measure latency, throughput and memory of every architecture and write ``timings.json``.

    The networks are not trained before: how long one takes depends on its layers, not on its
    weights. Each has its turn in every round: inference in fp32 on test images of the `splits`, and
    a few steps of training as the recipe has it, in this one process, which takes its share of each
    batch if several are to train together.

    Raises:
        InputError: if the splits are missing or corrupt, a network doesn't fit the images, or the
            recipe can't be followed.
        StageError: if the memory doesn't suffice.
    """
    dataset = arrays.read(splits, settings).for_run(settings.seeds[0])
    batch_size = -(-settings.train.batch_size // settings.train.processes)
    recipe = settings.train.model_copy(update={"epochs": ENDLESS, "batch_size": batch_size})
    with without_compiler(), compute.prepare(settings.compute) as hardware:
        device = hardware.device
        test = to_device(dataset, "test", device)
        training = to_device(dataset, "train", device)
        steps = 1  # of a training, in each round
        if device.type == "cuda":  # as many as are prepared at once
            steps = max(1, PIXELS_AT_ONCE // (batch_size * dataset.image_size**2))
        some = training.subset(torch.arange(min(len(training), steps * batch_size)))
        batch, _ = next(plain_batches(test, settings.evaluate.batch_size))  # (B, C, H, W)
        networks: dict[str, nn.Module] = {}
        learners: dict[str, Learner] = {}

        def make_network(model: str) -> None:
            networks[model] = fresh(settings, model, dataset, hardware)
            cost.throughput(networks[model], batch)

        def make_learner(model: str) -> None:
            learners[model] = Learner(
                fresh(settings, model, dataset, hardware), some, recipe, hardware
            )
            for number in (1, 2):  # only the second step finds the optimiser's state beside it
                cost.training_throughput(learners[model].epoch(0, number), device)

        def turn(model: str) -> Turn:
            repeats = -(-settings.evaluate.latency_repeats // ROUNDS)
            return Turn(
                cost.latency(networks[model], batch[:1], repeats),
                cost.throughput(networks[model], batch),
                cost.training_throughput(learners[model].epoch(0, 1), device),
            )

        # this also warms them up: kernels are chosen, an optimiser makes its state
        inference_memory, training_memory = (
            {
                model: cost.peak_memory(partial(make, model), device)
                for model in settings.architectures
            }
            for make in (make_network, make_learner)
        )
        others = OtherProcesses()
        rounds = track(range(ROUNDS), "rounds of all architectures", total=ROUNDS)
        turns = cost.in_turns({model: partial(turn, model) for model in networks}, rounds)
        timings = records.Timings(
            device_name=hardware.name,
            threads=hardware.threads,
            throughput_batch=len(batch),
            training_batch=min(len(some), batch_size),
            precision=hardware.precision,
            other_processes=round(others.share(), 3),
            architectures={
                model: records.ArchitectureTimings(
                    latency_ms=[round(float(np.median(one.latencies)), 4) for one in found],
                    latency_ms_p95=round(
                        float(np.percentile(np.concatenate([one.latencies for one in found]), 95)),
                        4,
                    ),
                    throughput=[round(one.throughput, 1) for one in found],
                    training_throughput=[round(one.training_throughput, 1) for one in found],
                    inference_memory=inference_memory[model],
                    training_memory=training_memory[model],
                )
                for model, found in turns.items()
            },
            splits=dataset.fingerprint,
            made_from=made_from("measure", settings),
        )
    for model, found in timings.architectures.items():
        say(
            f"{model}: {np.median(found.latency_ms):.2f} ms for one image, "
            f"{np.median(found.throughput):,.0f} images/s, "
            f"{np.median(found.training_throughput):,.0f} images/s in training, "
            f"memory {found.inference_memory / 1e6:,.0f} MB, "
            f"{found.training_memory / 1e6:,.0f} MB in training"
        )
    if timings.other_processes > BUSY:
        say(
            f"other processes took {timings.other_processes:.0%} of the processor time meanwhile: "
            "these times are too long; measure again when nothing else runs"
        )
    with atomic_folder(out, "timings.json") as folder:
        records.write(folder / "timings.json", timings)
