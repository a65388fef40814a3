"""Measure one trained network on the test split, which nothing has looked at before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.data import arrays
from pipeline.engines.unchanged import checksum_of_code, made_from
from pipeline.evaluation import cost
from pipeline.evaluation.interventions import Spread, intervene, weights_over
from pipeline.evaluation.metrics import classification_metrics
from pipeline.models.fuse import fused
from pipeline.models.layers import Classifier
from pipeline.settings.schema import Settings
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder
from pipeline.storage.checksums import checksum
from pipeline.storage.npy import save_array
from pipeline.system.errors import StageError
from pipeline.system.progress import say, track
from pipeline.training import compute
from pipeline.training.batches import Images, mixed_batches, plain_batches, to_device
from pipeline.training.compute import Hardware
from pipeline.training.networks import trained
from pipeline.training.prediction import predict
from pipeline.training.randomness import generator
from pipeline.training.weights import check_recipe


def run(settings: Settings, model: str, seed: int, weights: Path, splits: Path, out: Path) -> None:
    """Evaluate a training run's `weights` and write ``logits.npy`` and ``metrics.json`` to `out`.

    For a network with attention also ``interventions.npz``: what it answers, int64 (N,), `intact`,
    and with the weights of its attention modules `frozen` and `shuffled`.

    The logits are computed in fp32, so that what is reported doesn't depend on what the hardware
    rounds to. With folds, the run's `seed` says what its test split is.

    Raises:
        InputError: if the weights or the splits are missing, corrupt, or don't fit the settings.
        StageError: if a logit is not finite.
    """
    trained_from = check_recipe(weights, settings, model, seed, checksum_of_code("train"))
    dataset = arrays.read(splits, settings).for_run(seed)
    with compute.prepare(settings.compute, precision="fp32") as hardware:
        network = trained(settings, model, weights, dataset, hardware)
        test = to_device(dataset, "test", hardware.device)
        size = settings.evaluate.batch_size
        steps = -(-len(test) // size)
        batches = track(plain_batches(test, size), f"{model}: test images", total=steps)
        parts = [part for part, _ in predict(fused(network), batches, hardware)]
        logits = torch.cat(parts).cpu().numpy()  # (N, K)
        validation = to_device(dataset, "validation", hardware.device)
        modules = network.attention_layers()
        weights_seen = weights_over(network, modules, plain_batches(validation, size), hardware)
        intervened = _without_the_image(network, weights_seen, test, size, seed, hardware)

    if not np.isfinite(logits).all():
        raise StageError(
            f"{weights}: gives a logit that is not finite; lower train.learning_rate in "
            f"params.yaml and train {model} again"
        )
    labels = test.labels.cpu().numpy()
    interventions = {
        name: records.Intervened(
            accuracy=float((answers == labels).mean()),
            changed=int((answers != intervened["intact"]).sum()),
        )
        for name, answers in intervened.items()
        if name != "intact"
    }
    metrics = records.Evaluation(
        **dict(classification_metrics(logits, labels, dataset.classes)),
        parameters=cost.parameters(network),
        macs=cost.macs(network, dataset.image_size, dataset.channels),
        splits=dataset.fingerprint,
        weights=checksum(weights),
        trained_from=trained_from,
        made_from=made_from("evaluate", settings, model),
        interventions=interventions,
        modules={name: spread.state for name, spread in weights_seen.items()},
    )
    say(f"test accuracy {metrics.accuracy:.2%} of {len(labels):,} images")
    with atomic_folder(out, "metrics.json") as folder:
        save_array(folder / "logits.npy", logits.astype(np.float32))
        if intervened:
            np.savez(folder / "interventions.npz", allow_pickle=False, **intervened)
        records.write(folder / "metrics.json", metrics)


def _without_the_image(
    network: Classifier,
    seen: Mapping[str, Spread],
    test: Images,
    size: int,
    seed: int,
    hardware: Hardware,
) -> dict[str, np.ndarray]:
    """Return what `intervene` does as answers int64 (N,), by name; nothing without attention."""
    if not seen:
        return {}
    modules = network.attention_layers()
    means = {name: spread.mean for name, spread in seen.items()}
    draws = generator(seed, 0, "shuffled attention")
    order = torch.randperm(len(test), generator=draws)
    batches = mixed_batches(test, size, order)
    logits = intervene(network, modules, means, batches, hardware, draws)
    back = order.argsort().numpy()
    return {name: given[back].argmax(axis=1) for name, given in logits.items()}
