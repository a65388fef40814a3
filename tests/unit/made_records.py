"""Records as the stages write them, made up by tests; what a test is about is passed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.evaluation.metrics import classification_metrics
from pipeline.storage import records

WEIGHTS = b"weights"  # in the place of a training's model.safetensors
SHA256_OF_WEIGHTS = hashlib.sha256(WEIGHTS).hexdigest()
ANYTHING = records.MadeFrom(settings={}, code={}, inputs={})  # fits any settings


DRAWING = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="4.5pt" height="3pt"><text>a "b" &lt;c'd</text></svg>
"""


def write_figure(path: Path) -> None:
    """Write an empty figure of 6 by 4 pixels."""
    if path.suffix == ".svg":
        path.write_text(DRAWING)
    else:
        Image.new("RGB", (6, 4)).save(path)


def made_training(**changes: Any) -> records.Training:
    """Return ``train.json`` of five epochs, the fourth of which was the best."""
    content = {
        "model": "cnn",
        "seed": 0,
        "images": 100,
        "epochs": 5,
        "stopped_early": False,
        "best_epoch": 4,
    }
    content |= {"validation_accuracy": 0.9, "validation_loss": 0.3, "precision": "fp32"}
    content |= {"device": "cpu", "device_name": "A CPU", "threads": 1, "processes": 1}
    content |= {"versions": {"python": "3", "torch": "2"}, "pretrained": None}
    return records.Training(**(content | changes))


def made_evaluation(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], **changes: Any
) -> records.Evaluation:
    """Return ``metrics.json`` of a network with these answers."""
    content = dict(classification_metrics(logits, labels, tuple(classes)))
    content |= {"parameters": 1000, "macs": 5_000_000, "splits": "", "weights": SHA256_OF_WEIGHTS}
    content |= {"trained_from": ANYTHING, "made_from": ANYTHING, "interventions": {}, "modules": {}}
    return records.Evaluation(**(content | changes))


def made_timings(
    latencies: Mapping[str, float], others: float = 0.0, splits: str = ""
) -> records.Timings:
    """Return ``timings.json`` of architectures by the time for one image, the same each round."""
    architectures = {
        model: records.ArchitectureTimings(
            latency_ms=[latency] * 9,
            latency_ms_p95=latency,
            throughput=[100.0] * 9,
            training_throughput=[50.0] * 9,
            inference_memory=3_000_000,
            training_memory=12_000_000,
        )
        for model, latency in latencies.items()
    }
    return records.Timings(
        device_name="A CPU",
        threads=1,
        throughput_batch=64,
        training_batch=64,
        precision="fp32",
        other_processes=others,
        architectures=architectures,
        splits=splits,
        made_from=ANYTHING,
    )


def made_splits(
    classes: Sequence[str], image_size: int, channels: int, **changes: Any
) -> records.Splits:
    """Return ``dataset.json`` of images whose mean is 0.5 and whose std is 0.25."""
    content = {"name": "digits", "classes": list(classes), "image_size": image_size}
    content |= {"channels": channels, "normalisation": "training", "folds": None}
    content |= {"mean": [0.5] * channels, "std": [0.25] * channels, "counts": {}, "rejected": 0}
    content |= {"duplicates": records.NO_DUPLICATES, "sha256": {}, "official": [], "groups": None}
    content["near_duplicates"] = None
    return records.Splits(**(content | changes))


# What the explain stage found out by deletion and insertion, on nine images, where nothing differs.
AREAS = pd.DataFrame(
    list(product(records.FILLS, records.CURVES, records.HEATMAP_KINDS)),
    columns=["fill", "curve", "heatmap"],
).assign(area=0.3, low=0.25, high=0.35, images=9)
DIFFERENCES = pd.DataFrame(
    [
        (fill, curve, *pair)
        for fill, curve, pair in product(records.FILLS, records.CURVES, records.COMPARISONS)
    ],
    columns=["fill", "curve", "heatmap", "against"],
).assign(advantage=0.01, low=-0.02, high=0.04, p=0.4, p_holm=1.0)
EMPTY_IMAGES = pd.DataFrame({
    "image": ["complete", *records.FILLS], "probability": [0.9, 0.25, 0.5],
    "low": [0.8, 0.2, 0.4], "high": [1.0, 0.3, 0.6], "images": 9,
})  # fmt: skip


def made_explanation(
    randomised: Sequence[str], attention: Sequence[str] = ()
) -> records.Explanation:
    """Return ``explain.json`` of a network with these attention modules."""
    content: dict[str, Any] = {"model": "cnn", "feature_maps": {"layers": {}}, "cams": {}}
    content |= {"heatmaps": {"layer": "conv"}, "images": [], "weights": SHA256_OF_WEIGHTS}
    content |= {"made_from": ANYTHING, "splits": ""}
    content |= {
        "faithfulness": {"images": 9, "steps": 8, "fills": {}, "confidence": 0.95},
        "randomisation": {"randomised": list(randomised), "networks": 4, "confidence": 0.95},
    }
    if attention:
        modules = {name: {"kind": "channel", "shape": [8]} for name in attention}
        content["attention"] = {"modules": modules, "shown": list(attention), "constant": []}
        content["attention"]["constant_below"] = 0.01
    return records.Explanation(**content)
