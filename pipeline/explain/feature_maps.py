"""Feature maps: what single channels of a few layers make of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from pipeline.reporting.style import shortened, show_image, style, without_axes

COLOUR_MAP = "viridis"
CONTRAST_PERCENTILES = (1, 99)


@contextmanager
def caught(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """Catch what `layers` put out while the context is open.

    Yields:
        a dictionary that each forward pass fills with one (B, C, H, W) tensor per layer. The hooks
        come off when the context closes, also after an error.
    """
    outputs: dict[str, torch.Tensor] = {}

    def catch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            outputs[name] = output.detach()

        return hook

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(catch(name)).remove)
        yield outputs


def spread(names: Sequence[str], most: int) -> list[str]:
    """Return at most `most` of `names`, evenly spread from the first to the last."""
    if len(names) <= most:
        return list(names)
    return [names[round(p)] for p in np.linspace(0, len(names) - 1, most)]


@torch.no_grad()
def feature_maps(
    model: nn.Module, layers: Mapping[str, nn.Module], inputs: torch.Tensor
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Run `inputs` through `model`.

    Args:
        model: in evaluation mode.
        layers: of the model, by name.
        inputs: float32 (B, C, H, W), normalised.

    Returns:
        the output of each layer, float32 (B, C, H, W), and the logits, float32 (B, K).
    """
    with caught(layers) as outputs:
        logits = model(inputs)
    maps = {name: outputs[name].float().cpu().numpy() for name in layers}
    return maps, logits.float().cpu().numpy()


def draw_feature_maps(
    title: str,
    images: np.ndarray,
    classes: Sequence[str],
    maps: Mapping[str, np.ndarray],
    channels: int,
) -> Figure:
    """Draw one row for each image: the image, then a grid of the first channels of each layer.

    The maps of a layer share one colour scale, so that its channels and images compare.

    Args:
        title: of the figure.
        images: uint8 (B, H, W, C).
        classes: B class names.
        maps: (B, C, H, W) for each layer, shallow to deep.
        channels: how many of each layer's channels to draw.
    """
    side = math.ceil(math.sqrt(channels))
    with style():
        rows, columns = len(images), len(maps) + 1
        figure = Figure(figsize=(2.75 * columns, 2.75 * rows + 1.2))
        figure.suptitle(title)
        grid = figure.add_gridspec(
            rows + 1, columns, height_ratios=[1] * rows + [0.045], wspace=0.08, hspace=0.06
        )
        for row, (image, name) in enumerate(zip(images, classes, strict=True)):
            axes = figure.add_subplot(grid[row, 0])
            show_image(axes, image)
            axes.set_title(f"class: {shortened(name)}")
        for column, (layer, outputs) in enumerate(maps.items(), start=1):
            shown = outputs[:, :channels]  # (B, channels, H, W)
            low, high = np.percentile(shown, CONTRAST_PERCENTILES)
            for row, channel_maps in enumerate(shown):
                nested = grid[row, column].subgridspec(side, side, wspace=0.06, hspace=0.06)
                for position, channel_map in enumerate(channel_maps):
                    axes = figure.add_subplot(nested[position // side, position % side])
                    drawn = axes.imshow(
                        channel_map,
                        cmap=COLOUR_MAP,
                        vmin=low,
                        vmax=max(high, low + 1e-6),
                        interpolation="nearest",
                    )
                    without_axes(axes)
                    if row == 0 and position == min(side, shown.shape[1]) // 2:
                        axes.set_title(_heading(layer, outputs.shape, shown.shape[1]))
            bar = figure.colorbar(
                drawn, cax=figure.add_subplot(grid[rows, column]), orientation="horizontal"
            )
            bar.set_label(f"{layer} output")
            bar.ax.locator_params(nbins=4)
            bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _heading(layer: str, shape: tuple[int, ...], shown: int) -> str:
    return f"{layer}: {shown} of {shape[1]}\nchannels, {shape[2]} x {shape[3]} px"
