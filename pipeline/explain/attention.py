"""Attention weights: which channels a network lets through for which class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from pipeline.reporting.style import shortened, style

COLOUR_MAP = "viridis"
NARROW_PANEL_CHANNELS = 32
MOST_CLASS_NAMES = 20


@dataclass(frozen=True)
class ClassWeights:
    """One attention module's weights by class, float64 (K, C); NaN where a class has no image."""

    mean: np.ndarray
    sd: np.ndarray  # over the class's images, dividing by their number


@contextmanager
def caught_weights(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """Catch the weights (B, C) that attention `modules` give while the context is open."""
    weights: dict[str, torch.Tensor] = {}

    def catch(name: str) -> Any:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            weights[name] = module.weights(inputs[0]).detach()

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(catch(name)).remove)
        yield weights


@torch.no_grad()
def weights_by_class(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    batches: Iterable[tuple[torch.Tensor, np.ndarray]],
    num_classes: int,
) -> dict[str, ClassWeights]:
    """Average the attention weights of each class over the images of `batches`.

    Args:
        model: in evaluation mode.
        modules: its attention modules, by name.
        batches: inputs float32 (B, C, H, W), normalised, and labels int64 (B,).
        num_classes: K.
    """
    count = np.zeros((num_classes, 1))
    sums: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    with caught_weights(modules) as caught:
        for inputs, labels in batches:
            model(inputs)
            member = np.eye(num_classes)[labels].T  # (K, B)
            count += member.sum(axis=1, keepdims=True)
            for name in modules:
                weights = caught[name].double().cpu().numpy()  # (B, C)
                sums[name] = sums.get(name, 0) + member @ weights
                squares[name] = squares.get(name, 0) + member @ weights**2
    with np.errstate(invalid="ignore"):
        means = {name: total / count for name, total in sums.items()}
        return {
            name: ClassWeights(mean, np.sqrt(np.maximum(squares[name] / count - mean**2, 0)))
            for name, mean in means.items()
        }


def attention_table(weights: Mapping[str, ClassWeights], classes: Sequence[str]) -> pd.DataFrame:
    """Return one row for each layer, channel and class: layer, channel, class, mean_weight, sd."""
    frames = []
    for layer, by_class in weights.items():
        channels = by_class.mean.shape[1]
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "channel": np.repeat(np.arange(channels), len(classes)),
                    "class": list(classes) * channels,
                    "mean_weight": by_class.mean.T.ravel(),
                    "sd_over_images": by_class.sd.T.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def draw_attention(
    title: str, weights: Mapping[str, ClassWeights], classes: Sequence[str]
) -> Figure:
    """Draw one panel for each attention module: classes down, channels across, one colour scale."""
    with style():
        widest = max(by_class.mean.shape[1] for by_class in weights.values())
        columns = 1 if widest > NARROW_PANEL_CHANNELS else min(3, len(weights))
        rows = -(-len(weights) // columns)
        named = len(classes) <= MOST_CLASS_NAMES
        height = max(1.6, 0.24 * len(classes)) if named else 3.0
        figure = Figure(figsize=(11, (height + 0.75) * rows + 0.6), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(rows, columns, squeeze=False)
        low = min(np.nanmin(by_class.mean) for by_class in weights.values())
        high = max(np.nanmax(by_class.mean) for by_class in weights.values())
        for axes in panels.flat[len(weights) :]:
            axes.set_axis_off()
        for position, (name, by_class) in enumerate(weights.items()):
            axes = panels.flat[position]
            drawn = axes.imshow(
                by_class.mean,
                cmap=COLOUR_MAP,
                vmin=low,
                vmax=high,
                aspect="auto",
                interpolation="nearest",
            )
            axes.set_title(f"{name}: {by_class.mean.shape[1]} channels")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if position // columns == rows - 1 or position + columns >= len(weights):
                axes.set_xlabel("channel")
            if position % columns:
                axes.set_yticks([])
            elif named:
                names = [shortened(name) for name in classes]
                axes.set_yticks(range(len(classes)), names, fontsize=10)
                axes.set_ylabel("class")
            else:
                axes.set_ylabel("class number")
        bar = figure.colorbar(drawn, ax=panels, shrink=min(1.0, 0.4 + 0.3 / rows), aspect=25)
        bar.set_label("mean attention weight")
    return figure
