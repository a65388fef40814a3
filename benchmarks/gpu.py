"""Training on a GPU against the usual loop with mixed precision."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import torch

from benchmarks.line import Line, Mark, at_rate
from benchmarks.networks import Training
from benchmarks.shares import shares_of
from benchmarks.timing import take_turns
from pipeline.settings.schema import Compute
from pipeline.training import compute, step

WORKERS = 16
IMAGES = 45_000  # CIFAR-10's training split
TURNS = 3
BC_100: dict[str, object] = {"block_config": [16, 16, 16]}
CHANGED: dict[str, dict[str, object]] = {
    "cnn": {},
    "ca_cnn": {},
    "densenet": BC_100,
    "se_densenet": BC_100,
}
COMPARED = {
    "ca_cnn": Mark("at least", 10, " times"),
    "se_densenet": Mark("no mark", 0, " times"),
}
FEWER = {"ca_cnn": IMAGES, "se_densenet": 3_200}  # where the usual loop takes minutes
EPOCHS = 50
NO_GPU = "no GPU here: see docs/benchmarks_gpu.md"
TEN_MINUTES = Mark("at most", 10, " min")
AGAINST = f"the usual loop, {WORKERS} workers, mixed precision"
COMPARISON = f"{EPOCHS} epochs of all four architectures, one seed, DenseNets BC-100-12"


def gpu() -> Iterator[Line]:
    """Measure on the GPU, if there is one."""
    if not torch.cuda.is_available():
        for model, mark in COMPARED.items():
            yield Line(f"training `{model}` on a GPU", "", AGAINST, (), mark, NO_GPU)
        yield Line(COMPARISON, "", "", (), TEN_MINUTES, NO_GPU)
        return
    wanted = Compute(device="cuda", precision="auto", threads=1)
    with compute.prepare(wanted) as hardware:
        trainings = {
            model: Training.of(model, IMAGES, hardware, changed)
            for model, changed in CHANGED.items()
        }
        for model, mark in COMPARED.items():
            training = trainings[model].on(FEWER[model])
            turns = take_turns(
                training.images_per_second,
                lambda training=training: training.usual_images_per_second(WORKERS),  # type: ignore[misc]
                TURNS,
            )
            with patch.object(step, "is_capturable", return_value=False):
                one_by_one = training.images_per_second()
            yield Line(
                f"training `{model}` in {hardware.precision} on {hardware.name}",
                at_rate(turns.ours),
                f"{AGAINST}: {at_rate(turns.theirs)}",
                turns.ratios(),
                mark,
                f"Of the time of the GPU's kernels: {shares_of(training.step)}. "
                f"Kernels started one by one, not as a CUDA graph: {one_by_one:,.0f} images/s.",
            )
        seconds = {model: training.epoch_seconds() for model, training in trainings.items()}
    shown = ", ".join(f"`{model}` {taken:.2f} s" for model, taken in seconds.items())
    minutes = EPOCHS * sum(seconds.values()) / 60
    yield Line(
        COMPARISON,
        f"{minutes:.1f} min",
        f"from one epoch of each, on {hardware.name}",
        (minutes,),
        TEN_MINUTES,
        f"An epoch takes {shown}. A DenseNet's step is thousands of kernels, and on 64 images of "
        "32 pixels each is too short to fill the GPU. Three seeds on one GPU take three times as "
        "long.",
    )
