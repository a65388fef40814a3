"""Draw what one trained network looks at, on the same test images for every architecture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data import arrays
from pipeline.explain.attention import (
    ClassWeights,
    attention_table,
    draw_attention,
    weights_by_class,
)
from pipeline.explain.feature_maps import draw_feature_maps, feature_maps, spread
from pipeline.explain.heatmaps import draw_heatmaps, strongest_channels
from pipeline.explain.images import choose_images
from pipeline.files import whole
from pipeline.models.layers import Classifier
from pipeline.params import Settings
from pipeline.progress import say, track
from pipeline.reporting.style import save
from pipeline.stages.network import trained
from pipeline.stages.splits import wanted
from pipeline.training import compute
from pipeline.training.batches import Images, plain_batches, to_device

FEATURE_LAYERS = 3
HEATMAP_CHANNELS = 3
ATTENTION_PANELS = 6


def run(settings: Settings, model: str, weights: Path, splits: Path, out: Path) -> None:
    """Write the figures of one architecture, and the numbers in them.

    Writes ``feature_maps.png``, ``feature_maps.npz`` (the maps drawn), ``heatmaps.png`` and
    ``explain.json``; for a network with attention also ``attention.png`` and ``attention.csv``.

    Args:
        settings: all of params.yaml; `architectures`, `compute`, `evaluate.batch_size` and
            `explain` are used.
        model: a key of `settings.architectures`.
        weights: the ``model.safetensors`` of one training run.
        splits: the folder that the split stage wrote.
        out: the folder to write.

    Raises:
        InputError: if the weights or the splits are missing, torn, or don't fit the settings.
    """
    dataset = arrays.read(splits, wanted(settings)).for_run(settings.seeds[0])
    rows = dataset.rows("test")
    with (
        compute.prepare(settings.compute, precision="fp32") as hardware,
        whole(out, "explain.json") as folder,
    ):
        network = trained(settings, model, weights, dataset, hardware)
        test = to_device(dataset, "test", hardware.device)

        chosen = choose_images(dataset.labels[rows], settings.explain.images, settings.explain.seed)
        record = _images(network, test, chosen, dataset, model, settings.explain.channels, folder)
        modules = network.attention_layers()
        if modules:
            batches = _labelled(test, settings.evaluate.batch_size, model)
            by_class = weights_by_class(network, modules, batches, len(dataset.classes))
            record["attention"] = _attention(by_class, dataset.classes, model, folder)
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (folder / "explain.json").write_text(text, encoding="utf-8")
    say(f"figures of {len(chosen)} test images in {out}")


def _images(
    network: Classifier,
    test: Images,
    chosen: np.ndarray,
    dataset: arrays.Dataset,
    model: str,
    channels: int,
    folder: Path,
) -> dict[str, Any]:
    """Draw feature maps and heatmaps of the `chosen` test images; return what they show."""
    part = test.subset(torch.from_numpy(chosen))
    inputs, _ = next(plain_batches(part, len(chosen)))
    layers = network.feature_layers()
    maps, logits = feature_maps(network, layers, inputs)

    pictures = part.pictures(slice(None)).cpu().numpy()
    true = [dataset.classes[label] for label in part.labels.tolist()]
    predicted = [dataset.classes[label] for label in logits.argmax(axis=1)]
    drawn = spread(list(layers), FEATURE_LAYERS)
    deepest = list(layers)[-1]
    strongest = [strongest_channels(image, HEATMAP_CHANNELS) for image in maps[deepest]]

    save(
        draw_feature_maps(
            f"Feature maps of {model}",
            pictures,
            true,
            {name: maps[name] for name in drawn},
            channels,
        ),
        folder / "feature_maps.png",
    )
    save(
        draw_heatmaps(
            f"Strongest channels of {deepest} in {model}",
            pictures,
            true,
            predicted,
            maps[deepest],
            strongest,
        ),
        folder / "heatmaps.png",
    )
    drawn_maps: dict[str, Any] = {name: maps[name][:, :channels] for name in drawn}
    np.savez(folder / "feature_maps.npz", **drawn_maps)
    ids = dataset.ids[dataset.rows("test")][chosen]
    return {
        "model": model,
        "feature_maps": {
            "layers": {
                name: {
                    "shape": list(maps[name].shape[1:]),
                    "channels_drawn": min(channels, maps[name].shape[1]),
                }
                for name in drawn
            }
        },
        "heatmaps": {"layer": deepest},
        "images": [
            {
                "id": int(ids[i]),
                "class": true[i],
                "predicted": predicted[i],
                "heatmap_channels": strongest[i].tolist(),
                "heatmap_mean_activations": [
                    _rounded(maps[deepest][i, channel].mean()) for channel in strongest[i]
                ],
            }
            for i in range(len(chosen))
        ],
    }


def _attention(
    by_class: dict[str, ClassWeights], classes: tuple[str, ...], model: str, folder: Path
) -> dict[str, Any]:
    """Draw and tabulate the attention weights; return which modules there are and are drawn."""
    shown = spread(list(by_class), ATTENTION_PANELS)
    which = "" if len(shown) == len(by_class) else f" ({len(shown)} of {len(by_class)} modules)"
    figure = draw_attention(
        f"Mean attention weight by class in {model}{which}",
        {name: by_class[name] for name in shown},
        classes,
    )
    save(figure, folder / "attention.png")
    table = attention_table(by_class, classes)
    table.to_csv(folder / "attention.csv", index=False, float_format="%.6g", lineterminator="\n")
    return {
        "channels": {name: weights.mean.shape[1] for name, weights in by_class.items()},
        "shown": shown,
    }


def _labelled(test: Images, batch_size: int, model: str) -> Iterator[tuple[Tensor, np.ndarray]]:
    steps = -(-len(test) // batch_size)
    batches = plain_batches(test, batch_size)
    for inputs, labels in track(batches, f"{model}: attention weights", total=steps):
        yield inputs, labels.cpu().numpy()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
