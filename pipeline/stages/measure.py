"""Measure how fast the architectures are, all of them in one process, in turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data import arrays
from pipeline.evaluation import cost
from pipeline.settings.schema import Settings
from pipeline.stages.unchanged import made_from
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder
from pipeline.system.progress import say, track
from pipeline.training import compute
from pipeline.training.batches import plain_batches, to_device
from pipeline.training.networks import fresh

ROUNDS = 5  # so that a machine that grows slower meanwhile does so for all


def run(settings: Settings, splits: Path, out: Path) -> None:
    """Measure latency and throughput of every architecture and write ``timings.json``.

    The networks are not trained: how long one takes depends on its layers, not on its weights. Each
    has its turn in every round, in fp32, on test images of the `splits`.

    Raises:
        InputError: if the splits are missing or corrupt, or a network doesn't fit the images.
    """
    dataset = arrays.read(splits, settings).for_run(settings.seeds[0])
    with compute.prepare(settings.compute, precision="fp32") as hardware:
        test = to_device(dataset, "test", hardware.device)
        batch, _ = next(plain_batches(test, settings.evaluate.batch_size))  # (B, C, H, W)
        networks = {
            model: fresh(settings, model, dataset, hardware) for model in settings.architectures
        }
        repeats = -(-settings.evaluate.latency_repeats // ROUNDS)
        latencies: dict[str, list[np.ndarray]] = {model: [] for model in networks}
        throughputs: dict[str, list[float]] = {model: [] for model in networks}
        for number in track(range(ROUNDS), "rounds of all architectures", total=ROUNDS):
            # to and fro, so that none always comes after the same one
            for model, network in list(networks.items())[:: 1 if number % 2 == 0 else -1]:
                latencies[model].append(cost.latency(network, batch[:1], repeats))
                throughputs[model].append(cost.throughput(network, batch, 1))
        timings = records.Timings(
            device_name=hardware.name,
            threads=hardware.threads,
            throughput_batch=len(batch),
            architectures={
                model: records.ArchitectureTimings(
                    latency_ms=[round(float(np.median(each)), 4) for each in latencies[model]],
                    latency_ms_p95=round(
                        float(np.percentile(np.concatenate(latencies[model]), 95)), 4
                    ),
                    throughput=[round(images, 1) for images in throughputs[model]],
                )
                for model in networks
            },
            splits=dataset.fingerprint,
            made_from=made_from("measure", settings),
        )
    for model in networks:
        say(
            f"{model}: {np.median(latencies[model]):.2f} ms for one image, "
            f"{np.median(throughputs[model]):,.0f} images/s"
        )
    with atomic_folder(out, "timings.json") as folder:
        records.write(folder / "timings.json", timings)
