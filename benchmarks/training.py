"""Training, augmentation and evaluation on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from benchmarks.line import Line, Mark, at_rate, in_seconds
from benchmarks.networks import Training
from benchmarks.shares import shares_of
from benchmarks.timing import in_a_process, seconds_of, take_turns
from pipeline.models.fuse import fused
from pipeline.settings.schema import Compute
from pipeline.system.machine import cores
from pipeline.training import compute

WORKERS = 2
TURNS = 3
PROCESSES = 5  # turns of which each side has a process of its own
IMAGES = {"ca_cnn": 6400, "se_densenet": 1280}  # a few seconds of each


def on_cpu(precision: Literal["auto", "fp32", "bf16"]) -> Compute:
    """Return settings that give a job all cores."""
    return Compute(device="cpu", precision=precision, threads=cores())


def images_per_second(model: str, precision: Literal["fp32", "bf16"], is_usual: bool) -> float:
    """Return how fast an architecture is trained by the usual loop, or by the pipeline."""
    with compute.prepare(on_cpu(precision)) as hardware:
        training = Training.of(model, IMAGES[model], hardware)
        if is_usual:
            return training.usual_images_per_second(WORKERS)
        return training.images_per_second()


def throughput(
    model: str, precision: Literal["fp32", "bf16"], mark: Mark
) -> Callable[[], Iterator[Line]]:
    """Return what measures the training of one architecture against the usual loop."""

    def measure() -> Iterator[Line]:
        turns = take_turns(
            in_a_process(images_per_second, model, precision, False),
            in_a_process(images_per_second, model, precision, True),
            PROCESSES,
        )
        with compute.prepare(on_cpu(precision)) as hardware:
            shares = shares_of(Training.of(model, IMAGES[model], hardware).step)
        yield Line(
            f"training `{model}` in {precision}",
            at_rate(turns.ours),
            f"the usual loop, {WORKERS} workers, fp32: {at_rate(turns.theirs)}",
            turns.ratios(),
            mark,
            f"Of the processor's time: {shares}.",
        )

    return measure


def augmentation() -> Iterator[Line]:
    """Measure an epoch against the same steps on a batch that is ready."""
    with compute.prepare(on_cpu("auto")) as hardware:
        training = Training.of("ca_cnn", IMAGES["ca_cnn"], hardware)
        turns = take_turns(training.epoch_seconds, training.epoch_seconds_on_one_batch, 5)
    yield Line(
        f"an epoch of `ca_cnn` in {hardware.precision}, with loading and augmentation",
        in_seconds(turns.ours),
        f"the same steps on one batch that is ready: {in_seconds(turns.theirs)}",
        tuple(100 * (ratio - 1) for ratio in turns.ratios()),
        Mark("at most", 8, " % more", digits=1),
        "Crop, flip and rotation are one gather; the rest is the colours' arithmetic on each "
        "pixel, in fp32. A network slower than `ca_cnn` hides more of it.",
    )


def evaluation() -> Iterator[Line]:
    """Measure the evaluate stage's pass over the images against training the same network."""
    for model, count in IMAGES.items():
        with compute.prepare(on_cpu("auto")) as fast:
            training = Training.of(model, count, fast)
        with compute.prepare(on_cpu("fp32"), precision="fp32") as exact:
            evaluated = replace(training, hardware=exact)
            network = fused(evaluated.network().eval())

            def evaluating(evaluated: Training = evaluated, network=network) -> float:  # type: ignore[no-untyped-def]
                return len(evaluated.images) / seconds_of(lambda: evaluated.predict_all(network))

            evaluating()
            turns = take_turns(evaluating, training.images_per_second, TURNS)
            shares = shares_of(evaluating)
        yield Line(
            f"evaluating `{model}` in fp32, {training.settings.evaluate.batch_size} at once",
            at_rate(turns.ours),
            f"training it in {fast.precision}: {at_rate(turns.theirs)}",
            turns.ratios(),
            Mark("at least", 3, " times"),
            "The evaluate stage computes in fp32, so that what is reported doesn't depend on what "
            f"the hardware rounds to. Of the processor's time: {shares}.",
        )
