"""Draw what one trained network looks at, on the same test images for every architecture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data import arrays
from pipeline.engines.unchanged import checksum_of_code, made_from
from pipeline.explain.attention_figures import draw_attention, draw_attention_variation
from pipeline.explain.attention_weights import (
    CONSTANT_BELOW,
    attention_table,
    variation_table,
    weights_by_class,
)
from pipeline.explain.cam import (
    Kind,
    cam_layers,
    class_activation_maps,
    draw_cams,
    predicted_class_maps,
)
from pipeline.explain.choice import any_images, choose_images, spread
from pipeline.explain.faithfulness import (
    FILL_NAMES,
    areas_table,
    differences_table,
    draw_curves,
    draw_differences,
    empty_images_table,
    faithfulness,
)
from pipeline.explain.feature_maps import draw_feature_maps, feature_maps
from pipeline.explain.randomisation import draw_randomisation, randomisation, randomisation_table
from pipeline.explain.strongest_channels import draw_heatmaps, strongest_channels
from pipeline.figures.fonts import drawn_names
from pipeline.figures.style import save, shortened
from pipeline.models.layers import Classifier
from pipeline.settings.schema import Settings
from pipeline.statistics.image_means import CONFIDENCE
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder
from pipeline.storage.checksums import checksum
from pipeline.storage.csv_files import write_table
from pipeline.storage.npy import save_array
from pipeline.system.progress import say, track
from pipeline.training import compute
from pipeline.training.batches import Images, plain_batches, to_device
from pipeline.training.compute import Hardware
from pipeline.training.networks import fresh, trained
from pipeline.training.randomness import derive
from pipeline.training.weights import check_recipe

FEATURE_LAYERS = 3
HEATMAP_CHANNELS = 3
MOST_ATTENTION_PANELS = 6  # of each kind of attention
LONGEST_MODEL_NAME = 40
TESTED_AT_ONCE = 32  # images of which each is seen hundreds of times, so that the progress shows


@dataclass(frozen=True)
class _Subject:
    """A trained network with the test images."""

    settings: Settings
    model: str
    dataset: arrays.Dataset
    network: Classifier
    test: Images
    layers: dict[Kind, str]  # of the class activation maps

    @property
    def ids(self) -> np.ndarray:
        """Return int64 (N,), of the test images."""
        return self.dataset.ids[self.dataset.rows("test")]

    def labelled(self, what: str) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Yield all test images, normalised, and their labels; `what` is shown as progress."""
        size = self.settings.evaluate.batch_size
        batches = plain_batches(self.test, size)
        total = -(-len(self.test) // size)
        for inputs, labels in track(batches, f"{self.model}: {what}", total=total):
            yield inputs, labels.cpu().numpy()

    def tested(self, size: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Yield the test images that heatmaps are tested on, normalised, and their ids."""
        settings = self.settings.explain
        chosen = any_images(len(self.test), settings.faithfulness_images, settings.seed)
        part = self.test.subset(torch.from_numpy(chosen))
        ids = self.ids[chosen]
        for inputs, _ in plain_batches(part, size):
            yield inputs, ids[: len(inputs)]
            ids = ids[len(inputs) :]


def run(settings: Settings, model: str, weights: Path, splits: Path, out: Path) -> None:
    """Write the figures of one architecture, and the numbers in them.

    Writes ``feature_maps.png``, ``feature_maps.npz`` (the maps drawn), ``heatmaps.png``,
    ``cams.png``, ``grad_cam.npy`` (Grad-CAM of all test images), ``faithfulness.svg`` and ``.csv``
    (heatmaps compared with each other and with controls), ``faithfulness_curves.svg``,
    ``faithfulness_areas.csv``, ``empty_images.csv``, ``randomisation.svg`` and ``.csv``, and
    ``explain.json``; for a network with attention also ``attention.svg`` and ``.csv``,
    ``attention_variation.svg`` and ``.csv``.

    Args:
        settings: all of params.yaml; `architectures`, `compute`, `evaluate.batch_size` and
            `explain` are used.
        model: a key of `settings.architectures`.
        weights: the ``model.safetensors`` of one training run.
        splits: the folder that the split stage wrote.
        out: the folder to write.

    Raises:
        InputError: if the weights or the splits are missing, corrupt, or don't fit the settings.
    """
    check_recipe(weights, settings, model, settings.seeds[0], checksum_of_code("train"))
    dataset = arrays.read(splits, settings).for_run(settings.seeds[0])
    with (
        compute.prepare(settings.compute, precision="fp32") as hardware,
        atomic_folder(out, "explain.json") as folder,
    ):
        network = trained(settings, model, weights, dataset, hardware)
        test = to_device(dataset, "test", hardware.device)
        layers = cam_layers(network, next(plain_batches(test, 1))[0])
        subject = _Subject(settings, model, dataset, network, test, layers)
        record: dict[str, Any] = {
            "model": model,
            "splits": dataset.fingerprint,
            "weights": checksum(weights),
            "made_from": made_from("explain", settings, model),
        }
        record |= _draw_chosen_images(subject, folder)

        layer = network.activation_layers()[layers["grad_cam"]]
        maps = predicted_class_maps(network, layer, subject.labelled("Grad-CAM"))
        save_array(folder / "grad_cam.npy", maps)

        record["faithfulness"] = _test_faithfulness(subject, folder)
        record["randomisation"] = _randomise(subject, hardware, folder)

        if network.attention_layers():
            batches = subject.labelled("attention weights")
            record["attention"] = explain_attention(
                network, batches, dataset.classes, model, folder
            )
        records.write(folder / "explain.json", records.Explanation(**record))
    say(f"figures of {len(record['images'])} test images in {out}")


def _draw_chosen_images(subject: _Subject, folder: Path) -> dict[str, Any]:
    """Draw maps of a few images; return the part of explain.json about them."""
    model, network, classes = subject.model, subject.network, subject.dataset.classes
    settings = subject.settings.explain
    labels = subject.dataset.labels[subject.dataset.rows("test")]
    chosen = choose_images(labels, settings.images, settings.seed)
    part = subject.test.subset(torch.from_numpy(chosen))
    inputs, _ = next(plain_batches(part, len(chosen)))
    layers, modules = network.feature_layers(), network.activation_layers()
    maps, logits = feature_maps(network, layers, inputs)

    pixels = part.pixels(slice(None)).cpu().numpy()
    names = drawn_names(classes)
    true = [names[label] for label in part.labels.tolist()]
    answers = logits.argmax(axis=1).tolist()
    predicted = [names[label] for label in answers]

    drawn = {name: maps[name] for name in spread(list(layers), FEATURE_LAYERS)}
    title = f"Feature maps of {model}"
    figure = draw_feature_maps(title, pixels, true, drawn, settings.channels)
    save(figure, folder / "feature_maps.png")
    stored: dict[str, Any] = {name: drawn[name][:, : settings.channels] for name in drawn}
    np.savez(folder / "feature_maps.npz", **stored)

    deepest = list(layers)[-1]
    strongest = [strongest_channels(image, HEATMAP_CHANNELS) for image in maps[deepest]]
    title = f"Strongest channels of {deepest} in {model}, each from blue (least) to red (most)"
    figure = draw_heatmaps(title, pixels, true, predicted, maps[deepest], strongest)
    save(figure, folder / "heatmaps.png")

    targets = torch.from_numpy(logits.argmax(axis=1)).to(inputs.device)
    cams = {
        kind: class_activation_maps(network, kind, modules[layer], inputs, targets)
        for kind, layer in subject.layers.items()
    }
    title = f"What speaks for the predicted class in {model}"
    save(draw_cams(title, pixels, true, predicted, cams, subject.layers), folder / "cams.png")
    return {
        "feature_maps": {
            "layers": {
                name: {"shape": list(drawn[name].shape[1:]), "channels_drawn": len(stored[name][0])}
                for name in drawn
            }
        },
        "heatmaps": {"layer": deepest},
        "cams": {
            kind: {"layer": subject.layers[kind], "shape": list(cams[kind].shape[1:])}
            for kind in cams
        },
        "images": [
            {
                "id": number,
                "class": classes[part.labels[row]],
                "predicted": classes[answers[row]],
                "heatmap_channels": strongest[row].tolist(),
                "heatmap_mean_activations": [
                    float(f"{maps[deepest][row, channel].mean():.6g}") for channel in strongest[row]
                ],
            }
            for row, number in enumerate(subject.ids[chosen].tolist())
        ],
    }


def _test_faithfulness(subject: _Subject, folder: Path) -> dict[str, Any]:
    """Measure deletion and insertion; return the part of explain.json about them."""
    settings = subject.settings.explain
    size = min(subject.settings.evaluate.batch_size, TESTED_AT_ONCE)
    total = -(-min(settings.faithfulness_images, len(subject.test)) // size)
    progress = f"{subject.model}: deletion and insertion"
    tested = track(subject.tested(size), progress, total=total)
    steps, seed = settings.faithfulness_steps, settings.seed
    measured = faithfulness(subject.network, subject.layers, tested, steps, seed)
    tables = {
        "faithfulness": (differences_table, records.FAITHFULNESS),
        "faithfulness_areas": (areas_table, records.FAITHFULNESS_AREAS),
        "empty_images": (empty_images_table, records.EMPTY_IMAGES),
    }
    for name, (table, columns) in tables.items():
        write_table(table(measured), folder / f"{name}.csv", columns)
    images, points = measured["mean"]["grad_cam"].deletion.shape
    title = f"Which heatmaps are more faithful: {subject.model}, {images} test images"
    save(draw_differences(title, measured), folder / "faithfulness.svg")
    title = f"Pixels removed and put in, hottest first: {subject.model}, {images} test images"
    save(draw_curves(title, measured), folder / "faithfulness_curves.svg")
    return {"images": images, "steps": points - 1, "fills": FILL_NAMES, "confidence": CONFIDENCE}


def _randomise(subject: _Subject, hardware: Hardware, folder: Path) -> dict[str, Any]:
    """Compare with random networks; return the part of explain.json about it."""
    settings, model = subject.settings, subject.model
    count = settings.explain.random_networks

    def random_networks() -> Iterator[Classifier]:
        for number in range(count):
            torch.manual_seed(derive(settings.explain.seed, number, "random weights"))
            yield fresh(settings, model, subject.dataset, hardware)

    correlations = randomisation(
        subject.network,
        track(random_networks(), f"{model}: random weights", total=count),
        subject.layers,
        lambda: subject.tested(settings.evaluate.batch_size),
    )
    table = randomisation_table(correlations)
    write_table(table, folder / "randomisation.csv", records.RANDOMISATION)
    title = f"Heatmaps of {model} with random weights"
    save(draw_randomisation(title, correlations), folder / "randomisation.svg")
    return {"randomised": list(correlations), "networks": count, "confidence": CONFIDENCE}


def explain_attention(
    network: Classifier,
    batches: Iterable[tuple[Tensor, np.ndarray]],
    classes: Sequence[str],
    model: str,
    folder: Path,
) -> dict[str, Any]:
    """Write what the attention modules of a network do; return that part of explain.json.

    Writes ``attention.svg`` and ``attention.csv``, the mean weights by class, and
    ``attention_variation.svg`` and ``attention_variation.csv``, how much they vary and with what.
    `batches` are inputs float32 (B, C, H, W), normalised, and labels int64 (B,).
    """
    weights = weights_by_class(network, network.attention_layers(), batches, len(classes))
    shown: set[str] = set()
    for kind in {module.kind for module in weights.values()}:
        names = [name for name in weights if weights[name].kind == kind]
        shown.update(spread(names, MOST_ATTENTION_PANELS))
    drawn = {name: weights[name] for name in weights if name in shown}
    part = "" if len(drawn) == len(weights) else f" ({len(drawn)} of {len(weights)} modules)"
    title = f"Mean attention weight by class in {shortened(model, LONGEST_MODEL_NAME)}{part}"
    names_drawn = drawn_names(tuple(classes))
    save(draw_attention(title, drawn, names_drawn), folder / "attention.svg")
    save(draw_attention_variation(model, weights), folder / "attention_variation.svg")
    varying = variation_table(weights)
    write_table(attention_table(weights, classes), folder / "attention.csv")
    write_table(varying, folder / "attention_variation.csv", records.ATTENTION_VARIATION)
    return {
        "modules": {
            name: {"kind": module.kind, "shape": list(module.shape)}
            for name, module in weights.items()
        },
        "shown": list(drawn),
        "constant": varying["module"][varying["constant"]].tolist(),
        "constant_below": CONSTANT_BELOW,
    }
