"""Measure one trained network on the test split, which nothing has looked at before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from pipeline.data import arrays
from pipeline.data.arrays import expected_splits
from pipeline.evaluation import cost
from pipeline.evaluation.metrics import classification_metrics
from pipeline.models.fuse import fused
from pipeline.settings.schema import Settings
from pipeline.storage.atomic import atomic_folder
from pipeline.storage.npy import save_array
from pipeline.system.progress import say, track
from pipeline.training import compute
from pipeline.training.batches import plain_batches, to_device
from pipeline.training.networks import trained
from pipeline.training.prediction import predict


def run(settings: Settings, model: str, seed: int, weights: Path, splits: Path, out: Path) -> None:
    """Evaluate and write ``logits.npy`` and ``metrics.json``.

    The logits are computed in fp32, so that what is reported doesn't depend on what the hardware
    rounds to.

    Args:
        settings: all of params.yaml; `architectures`, `evaluate` and `compute` are used.
        model: a key of `settings.architectures`.
        seed: of the training run, which says what its test split is where there are folds.
        weights: the ``model.safetensors`` of one training run.
        splits: the folder that the split stage wrote.
        out: the folder to write.

    Raises:
        InputError: if the weights or the splits are missing, torn, or don't fit the settings.
    """
    dataset = arrays.read(splits, expected_splits(settings)).for_run(seed)
    with compute.prepare(settings.compute, precision="fp32") as hardware:
        network = trained(settings, model, weights, dataset, hardware)
        test = to_device(dataset, "test", hardware.device)
        size = settings.evaluate.batch_size
        steps = -(-len(test) // size)
        batches = track(plain_batches(test, size), f"{model}: test images", total=steps)
        parts = [part for part, _ in predict(fused(network), batches, hardware)]
        logits = torch.cat(parts).cpu().numpy()  # (N, K)

    labels = test.labels.cpu().numpy()
    metrics = classification_metrics(logits, labels, dataset.classes) | {
        "parameters": cost.parameters(network),
        "macs": cost.macs(network, dataset.image_size, dataset.channels),
        "splits": dataset.fingerprint,
    }
    say(f"test accuracy {metrics['accuracy']:.2%} of {len(labels):,} images")
    with atomic_folder(out, "metrics.json") as folder:
        save_array(folder / "logits.npy", logits.astype(np.float32))
        text = json.dumps(metrics, indent=2) + "\n"
        (folder / "metrics.json").write_text(text, encoding="utf-8")
