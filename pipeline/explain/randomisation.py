"""The randomisation check: whether a heatmap depends on what the network has learned.

Adebayo et al., "Sanity Checks for Saliency Maps", https://arxiv.org/abs/1810.03292, section 3. The
weights are replaced by random ones, from the output down. A heatmap that does not change shows the
image, or the architecture, and not what the network has learned.

How similar the two heatmaps are depends on the random weights as much as on the image: coarse maps
have few values, and one draw may agree with the trained network by luck. So there are several
random networks, and the interval counts them and the images as samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from pipeline.explain.cam import Kind, predicted_classes
from pipeline.explain.tested_heatmaps import network_heatmaps
from pipeline.figures.style import HEATMAPS, style
from pipeline.models.layers import Classifier
from pipeline.statistics.image_means import CONFIDENCE, mean_over_networks_and_images

State = dict[str, Tensor]
Correlations = dict[str, dict[str, np.ndarray]]


def weighted_layers(network: nn.Module, inputs: Tensor) -> list[str]:
    """Return the modules that have parameters of their own, in the order in which they run.

    One that is never called, since another uses its parameters, is not among them. The network is
    in evaluation mode; of `inputs`, float32 (B, C, H, W), normalised, one image is enough.
    """
    called: list[str] = []

    def record(name: str, module: nn.Module, inputs: Any) -> None:
        if name not in called:
            called.append(name)

    with ExitStack() as hooks, torch.no_grad():
        for name, module in network.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                hooks.callback(module.register_forward_pre_hook(partial(record, name)).remove)
        network(inputs[:1])
    return called


def randomised_states(trained: State, random: State, layers: list[str]) -> dict[str, State]:
    """Return states of a trained network that hold random weights from the output down.

    There is one for each of: last layer, deeper half (of the layers), all layers. `layers` are the
    modules with parameters, shallow to deep. What lies in none of them, or in a part of one that is
    not listed, goes with the innermost around it.
    """
    states = {}
    for what, names in (("last layer", layers[-1:]), ("deeper half", layers[len(layers) // 2 :])):
        states[what] = dict(trained)
        for name in trained:
            layer = name.rpartition(".")[0]
            while layer and layer not in layers:
                layer = layer.rpartition(".")[0]
            if layer in names:
                states[what][name] = random[name]
    return states | {"all layers": random}


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of each pair of maps (B, h, w), float64 (B,).

    It is NaN where a map has one value throughout: it has no order.
    """
    tables = [pd.DataFrame(maps.reshape(len(maps), -1)) for maps in (first, second)]
    ranks = [table.rank(axis=1).to_numpy() for table in tables]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))


def randomisation(
    network: Classifier,
    random_networks: Iterable[Classifier],
    layers: Mapping[Kind, str],
    batches: Callable[[], Iterable[tuple[Tensor, Any]]],
) -> Correlations:
    """Compare the heatmaps of a network with those it gives with random weights.

    Args:
        network: the trained one, in evaluation mode.
        random_networks: R of the same architecture with random weights; used up.
        layers: which of `network.activation_layers()` each class activation map is taken at.
        batches: gives the same batches each time: inputs float32 (B, C, H, W), normalised, and
            something that is not used.

    Returns:
        the rank correlations (R, N), by what was randomised and by kind of heatmap. All heatmaps
        are of the class that the trained network predicts.
    """
    trained = network.state_dict()
    targets = [predicted_classes(network, inputs) for inputs, _ in batches()]
    originals = [
        network_heatmaps(network, layers, inputs, classes)
        for (inputs, _), classes in zip(batches(), targets, strict=True)
    ]
    called = weighted_layers(network, next(iter(batches()))[0])
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for fresh in random_networks:
        fresh.eval()
        random = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
        for what, state in randomised_states(trained, random, called).items():
            fresh.load_state_dict(state)
            parts: dict[str, list[np.ndarray]] = {}
            for (inputs, _), classes, original in zip(batches(), targets, originals, strict=True):
                heatmaps = network_heatmaps(fresh, layers, inputs, classes)
                for kind, maps in original.items():
                    parts.setdefault(kind, []).append(rank_correlations(maps, heatmaps[kind]))
            for kind, correlations in parts.items():
                of_kind = found.setdefault(what, {}).setdefault(kind, [])
                of_kind.append(np.concatenate(correlations))
    return {
        what: {kind: np.stack(by_network) for kind, by_network in kinds.items()}
        for what, kinds in found.items()
    }


def randomisation_table(correlations: Correlations) -> pd.DataFrame:
    """Return one row for each kind of heatmap and what was randomised.

    Columns: heatmap, randomised, rank_correlation (mean over random networks and images, in
    [-1, 1]), low, high (interval of 95 % for both), least, greatest (mean of a single random
    network), networks, images, maps (of an image in a random network: those with a correlation).
    """
    rows = []
    for what, kinds in correlations.items():
        for kind, values in kinds.items():
            mean = mean_over_networks_and_images(values, -1, 1)
            by_network = _network_means(values)
            ends = (by_network.min(), by_network.max()) if len(by_network) else (np.nan, np.nan)
            numbers = (float(of) for of in (mean.mean, mean.low, mean.high, *ends))
            rows.append((kind, what, *numbers, *values.shape, np.isfinite(values).sum()))
    columns = ["heatmap", "randomised", "rank_correlation", "low", "high", "least", "greatest"]
    return pd.DataFrame(rows, columns=[*columns, "networks", "images", "maps"])


def _network_means(values: np.ndarray) -> np.ndarray:
    """Return the mean over images of each random network of float (R, N) that has any."""
    known = values[np.isfinite(values).any(axis=1)]
    return np.nanmean(known, axis=1)


def draw_randomisation(title: str, correlations: Correlations) -> Figure:
    """Draw the rank correlation of each kind against how much is randomised.

    Small dots are single random networks, the large ones their mean with its interval.
    """
    with style():
        figure = Figure(figsize=(8.5, 5.8), layout="constrained")
        axes = figure.subplots()
        figure.suptitle(title)
        table = randomisation_table(correlations)
        kinds = list(dict.fromkeys(table["heatmap"]))
        for position, kind in enumerate(kinds):
            rows, look = table[table["heatmap"] == kind], HEATMAPS[kind]
            shift = 0.14 * (position - (len(kinds) - 1) / 2)
            places = np.arange(len(rows) + 1) + shift
            for place, what in zip(places[1:], correlations, strict=True):
                dots = _network_means(correlations[what][kind])
                beside = np.full(len(dots), place + 0.045)
                axes.plot(beside, dots, "o", color=look.colour, markersize=3, alpha=0.45)
            mean = [1.0, *rows["rank_correlation"]]
            axes.plot(places, mean, f"{look.marker}-", color=look.colour, label=look.name)
            axes.vlines(places[1:], rows["low"], rows["high"], color=look.colour)
        axes.axhline(0, color="#777777", linewidth=1, zorder=0)
        axes.set_xticks(range(len(correlations) + 1), ["nothing", *correlations])
        axes.set_xlabel("what holds random weights")
        axes.set_ylabel("rank correlation with the heatmap\nof the trained network")
        axes.set_ylim(min(-0.25, table["least"].min() - 0.15), 1.05)
        note = "maps that are 0 throughout have no order: left out"
        axes.annotate(note, (0.02, 0.02), xycoords="axes fraction", fontsize=11)
        networks = table["networks"].max()
        heading = f"mean, {CONFIDENCE:.0%} interval;\nsmall: {networks} random networks"
        axes.legend(title=heading, loc="upper right")
    return figure
