"""The randomisation check: whether a heatmap depends on what the network has learned.

Adebayo et al., "Sanity Checks for Saliency Maps", https://arxiv.org/abs/1810.03292, section 3. The
weights are replaced by random ones, from the output down. A heatmap that does not change shows the
image, or the architecture, and not what the network has learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor, nn

from pipeline.explain.cam import Kind, predicted_classes
from pipeline.explain.tested_heatmaps import network_heatmaps
from pipeline.figures.style import HEATMAPS, style
from pipeline.models.layers import Classifier
from pipeline.statistics.image_means import CONFIDENCE, mean_over_images

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
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))


def randomisation(
    network: Classifier,
    fresh: Classifier,
    layers: Mapping[Kind, str],
    batches: Iterable[tuple[Tensor, Any]],
) -> Correlations:
    """Compare the heatmaps of a network with those it gives with random weights.

    Args:
        network: the trained one, in evaluation mode.
        fresh: the same architecture with random weights; used up.
        layers: which of `network.activation_layers()` each class activation map is taken at.
        batches: inputs float32 (B, C, H, W), normalised, and something that is not used.

    Returns:
        the rank correlations (N,), by what was randomised and by kind of heatmap. All heatmaps are
        of the class that the trained network predicts.
    """
    fresh.eval()
    random = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    states: dict[str, State] = {}
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for inputs, _ in batches:
        if not states:
            called = weighted_layers(network, inputs)
            states = randomised_states(network.state_dict(), random, called)
        targets = predicted_classes(network, inputs)
        original = network_heatmaps(network, layers, inputs, targets)
        for what, state in states.items():
            fresh.load_state_dict(state)
            heatmaps = network_heatmaps(fresh, layers, inputs, targets)
            for kind in original:
                part = rank_correlations(original[kind], heatmaps[kind])
                found.setdefault(what, {}).setdefault(kind, []).append(part)
    return {
        what: {kind: np.concatenate(parts) for kind, parts in kinds.items()}
        for what, kinds in found.items()
    }


def randomisation_table(correlations: Correlations) -> pd.DataFrame:
    """Return one row for each kind of heatmap and what was randomised.

    Columns: heatmap, randomised, rank_correlation (mean over images, in [-1, 1]), low, high
    (interval of 95 %), images (that have a correlation).
    """
    rows = []
    for what, kinds in correlations.items():
        for kind, values in kinds.items():
            mean = mean_over_images(values, -1, 1)
            rows.append((kind, what, mean.mean, mean.low, mean.high, mean.images))
    columns = ["heatmap", "randomised", "rank_correlation", "low", "high", "images"]
    return pd.DataFrame(rows, columns=columns)


def draw_randomisation(title: str, correlations: Correlations) -> Figure:
    """Draw the mean rank correlation of each kind against how much is randomised."""
    with style():
        figure = Figure(figsize=(8.5, 5.6), layout="constrained")
        axes = figure.subplots()
        figure.suptitle(title)
        table = randomisation_table(correlations)
        kinds = list(dict.fromkeys(table["heatmap"]))
        for position, kind in enumerate(kinds):
            rows, look = table[table["heatmap"] == kind], HEATMAPS[kind]
            shift = 0.06 * (position - (len(kinds) - 1) / 2)
            places = np.arange(len(rows) + 1) + shift
            mean = [1.0, *rows["rank_correlation"]]
            axes.plot(places, mean, "o-", color=look.colour, label=look.name)
            axes.vlines(places[1:], rows["low"], rows["high"], color=look.colour)
        axes.axhline(0, color="#777777", linewidth=1, zorder=0)
        axes.set_xticks(range(len(correlations) + 1), ["nothing", *correlations])
        axes.set_xlabel("what holds random weights")
        axes.set_ylabel("rank correlation with the heatmap\nof the trained network")
        axes.set_ylim(min(-0.25, table["low"].min() - 0.15), 1.05)
        note = "maps that are 0 throughout have no order: left out"
        axes.annotate(note, (0.02, 0.02), xycoords="axes fraction", fontsize=11)
        axes.legend(title=f"mean, {CONFIDENCE:.0%} interval", loc="upper right")
    return figure
