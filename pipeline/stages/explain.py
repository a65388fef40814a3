"""Draw what one trained network looks at, on the same test images for every architecture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data import arrays
from pipeline.explain.attention_outputs import explain_attention
from pipeline.explain.cam import (
    Kind,
    cam_layers,
    class_activation_maps,
    draw_cams,
    predicted_class_maps,
)
from pipeline.explain.faithfulness import draw_faithfulness, faithfulness, faithfulness_table
from pipeline.explain.feature_maps import draw_feature_maps, feature_maps, spread
from pipeline.explain.image_choice import any_images, choose_images
from pipeline.explain.randomisation import draw_randomisation, randomisation, randomisation_table
from pipeline.explain.strongest_channels import draw_heatmaps, strongest_channels
from pipeline.figures.style import save
from pipeline.models.layers import Classifier
from pipeline.settings.schema import Settings
from pipeline.statistics.image_means import CONFIDENCE
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder
from pipeline.storage.csv_files import write_table
from pipeline.storage.npy import save_array
from pipeline.system.progress import say, track
from pipeline.training import compute
from pipeline.training.batches import Images, plain_batches, to_device
from pipeline.training.compute import Hardware
from pipeline.training.networks import fresh, trained
from pipeline.training.randomness import derive

FEATURE_LAYERS = 3
HEATMAP_CHANNELS = 3
TESTED_AT_ONCE = 32  # images of which each is seen hundreds of times, so that the progress shows


@dataclass(frozen=True)
class _Explained:
    """A trained network, the test images, and the folder to write."""

    settings: Settings
    model: str
    dataset: arrays.Dataset
    hardware: Hardware
    network: Classifier
    test: Images
    layers: dict[Kind, str]  # of the class activation maps
    folder: Path

    @property
    def ids(self) -> np.ndarray:
        """Return int64 (N,), of the test images."""
        return self.dataset.ids[self.dataset.rows("test")]


def run(settings: Settings, model: str, weights: Path, splits: Path, out: Path) -> None:
    """Write the figures of one architecture, and the numbers in them.

    Writes ``feature_maps.png``, ``feature_maps.npz`` (the maps drawn), ``heatmaps.png``,
    ``cams.png``, ``grad_cam.npy`` (Grad-CAM of all test images), ``faithfulness.png`` and ``.csv``,
    ``randomisation.png`` and ``.csv``, and ``explain.json``; for a network with attention also
    ``attention.png`` and ``.csv``, ``attention_variation.png`` and ``.csv``.

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
    dataset = arrays.read(splits, settings).for_run(settings.seeds[0])
    with (
        compute.prepare(settings.compute, precision="fp32") as hardware,
        atomic_folder(out, "explain.json") as folder,
    ):
        network = trained(settings, model, weights, dataset, hardware)
        test = to_device(dataset, "test", hardware.device)
        inputs, _ = next(plain_batches(test, 1))
        layers = cam_layers(network, inputs)
        explained = _Explained(settings, model, dataset, hardware, network, test, layers, folder)
        record = _shown_images(explained)
        layer = network.activation_layers()[layers["grad_cam"]]
        save_array(
            folder / "grad_cam.npy",
            predicted_class_maps(network, layer, _labelled(explained, "Grad-CAM")),
        )
        record["faithfulness"] = _faithfulness(explained)
        record["randomisation"] = _randomisation(explained)
        if network.attention_layers():
            record["attention"] = explain_attention(
                network,
                _labelled(explained, "attention weights"),
                dataset.classes,
                model,
                folder,
            )
        records.write(folder / "explain.json", records.Explanation(**record))
    say(f"figures of {len(record['images'])} test images in {out}")


def _shown_images(explained: _Explained) -> dict[str, Any]:
    """Draw feature maps, heatmaps and class activation maps of a few images."""
    model, network, classes = explained.model, explained.network, explained.dataset.classes
    labels = explained.dataset.labels[explained.dataset.rows("test")]
    chosen = choose_images(
        labels, explained.settings.explain.images, explained.settings.explain.seed
    )
    part = explained.test.subset(torch.from_numpy(chosen))
    inputs, _ = next(plain_batches(part, len(chosen)))
    layers = network.feature_layers()
    maps, logits = feature_maps(network, layers, inputs)

    pictures = part.pictures(slice(None)).cpu().numpy()
    true = [classes[label] for label in part.labels.tolist()]
    predicted = [classes[label] for label in logits.argmax(axis=1)]
    channels = explained.settings.explain.channels
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
        explained.folder / "feature_maps.png",
    )
    save(
        draw_heatmaps(
            f"Strongest channels of {deepest} in {model}, each map scaled to itself",
            pictures,
            true,
            predicted,
            maps[deepest],
            strongest,
        ),
        explained.folder / "heatmaps.png",
    )
    targets = torch.from_numpy(logits.argmax(axis=1)).to(inputs.device)
    modules = network.activation_layers()
    cams = {
        kind: class_activation_maps(network, kind, modules[layer], inputs, targets)
        for kind, layer in explained.layers.items()
    }
    save(
        draw_cams(
            f"What speaks for the predicted class in {model}",
            pictures,
            true,
            predicted,
            cams,
            explained.layers,
        ),
        explained.folder / "cams.png",
    )
    drawn_maps: dict[str, Any] = {name: maps[name][:, :channels] for name in drawn}
    np.savez(explained.folder / "feature_maps.npz", **drawn_maps)
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
        "cams": {
            kind: {"layer": explained.layers[kind], "shape": list(maps_of_kind.shape[1:])}
            for kind, maps_of_kind in cams.items()
        },
        "images": [
            {
                "id": int(explained.ids[chosen[i]]),
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


def _faithfulness(explained: _Explained) -> dict[str, Any]:
    """Draw and tabulate deletion and insertion; return how they were measured."""
    settings = explained.settings.explain
    curves = faithfulness(
        explained.network,
        explained.layers,
        _tested(explained, "deletion and insertion"),
        settings.faithfulness_steps,
        settings.seed,
    )
    table = faithfulness_table(curves)
    write_table(table, explained.folder / "faithfulness.csv", records.FAITHFULNESS)
    images = int(table["images"].max())
    figure = draw_faithfulness(
        f"Pixels taken away and put in, hottest first: {explained.model}, {images} test images",
        curves,
    )
    save(figure, explained.folder / "faithfulness.png")
    return {
        "images": images,
        "steps": len(curves["grad_cam"].share) - 1,
        "empty_image": "the mean that images are normalised by",
        "confidence": CONFIDENCE,
    }


def _randomisation(explained: _Explained) -> dict[str, Any]:
    """Draw and tabulate the randomisation check; return how it was made."""
    seed = explained.settings.explain.seed
    torch.manual_seed(derive(seed, 0, "random weights"))
    random = fresh(explained.settings, explained.model, explained.dataset, explained.hardware)
    tested = _tested(explained, "random weights")
    correlations = randomisation(explained.network, random, explained.layers, tested)
    table = randomisation_table(correlations)
    write_table(table, explained.folder / "randomisation.csv", records.RANDOMISATION)
    figure = draw_randomisation(f"Heatmaps of {explained.model} with random weights", correlations)
    save(figure, explained.folder / "randomisation.png")
    return {"randomised": list(correlations), "confidence": CONFIDENCE}


def _labelled(explained: _Explained, what: str) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield all test images, normalised, and their labels."""
    batch_size = explained.settings.evaluate.batch_size
    batches = plain_batches(explained.test, batch_size)
    for inputs, labels in _tracked(explained, batches, what, len(explained.test), batch_size):
        yield inputs, labels.cpu().numpy()


def _tested(explained: _Explained, what: str) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield the test images on which heatmaps are put to the test, normalised, and their ids."""
    settings = explained.settings
    chosen = any_images(
        len(explained.test), settings.explain.faithfulness_images, settings.explain.seed
    )
    ids = explained.ids[chosen]
    part = explained.test.subset(torch.from_numpy(chosen))
    batch_size = min(settings.evaluate.batch_size, TESTED_AT_ONCE)
    batches = plain_batches(part, batch_size)
    done = 0
    for inputs, _ in _tracked(explained, batches, what, len(part), batch_size):
        yield inputs, ids[done : done + len(inputs)]
        done += len(inputs)


def _tracked(
    explained: _Explained,
    batches: Iterable[tuple[Tensor, Tensor]],
    what: str,
    images: int,
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    return track(batches, f"{explained.model}: {what}", total=-(-images // batch_size))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
