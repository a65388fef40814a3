"""Feature maps: what single channels of a few layers make of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import nn

from pipeline.figures.style import shortened, show_image, style, without_axes
from pipeline.models.inspection import record_outputs

COLOUR_MAP = "viridis"
CONTRAST_PERCENTILES = (1, 99)

# inches
BLOCK, TILE_GAP, GAP, ROW_TITLE = 2.5, 0.05, 0.3, 0.33
LEFT, RIGHT, HEADER, FOOTER = 0.15, 0.25, 0.62, 0.85


@torch.no_grad()
def feature_maps(
    model: nn.Module, layers: Mapping[str, nn.Module], inputs: torch.Tensor
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Run `inputs`, normalised float32 (B, C, H, W), through a model in evaluation mode.

    Returns:
        the output of each of its `layers`, float32 (B, C, H, W), and the logits, float32 (B, K).
    """
    with record_outputs(layers) as outputs:
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

    The maps of a layer share one colour scale, so that its channels and images compare. `images`
    are uint8 (B, H, W, C), `maps` (B, C, H, W) for each layer, shallow to deep.
    """
    with style():
        columns = len(maps) + 1
        width = LEFT + columns * BLOCK + (columns - 1) * GAP + RIGHT
        height = HEADER + len(images) * (BLOCK + ROW_TITLE) + FOOTER
        # The blocks are placed by hand: no layout engine keeps so many small axes square and close.
        figure = Figure(figsize=(width, height))
        figure.suptitle(title, y=1 - 0.12 / height, va="top")
        lefts = [LEFT + column * (BLOCK + GAP) for column in range(columns)]
        bottoms = [height - HEADER - (row + 1) * (BLOCK + ROW_TITLE) for row in range(len(images))]
        for bottom, image, name in zip(bottoms, images, classes, strict=True):
            axes = _axes(figure, lefts[0], bottom, BLOCK, BLOCK)
            show_image(axes, image)
            axes.set_title(f"class: {shortened(name)}")
        for left, (layer, outputs) in zip(lefts[1:], maps.items(), strict=True):
            shown = outputs[:, :channels]  # (B, channels, H, W)
            low, high = np.percentile(shown, CONTRAST_PERCENTILES)
            scale = Normalize(low, max(high, low + 1e-6))
            side = math.ceil(math.sqrt(channels))  # of the square grid of an image's maps
            tile = (BLOCK - (side - 1) * TILE_GAP) / side
            for bottom, channel_maps in zip(bottoms, shown, strict=True):
                for position, channel_map in enumerate(channel_maps):
                    row, column = divmod(position, side)
                    x = left + column * (tile + TILE_GAP)
                    y = bottom + BLOCK - tile - row * (tile + TILE_GAP)
                    axes = _axes(figure, x, y, tile, tile)
                    axes.imshow(channel_map, cmap=COLOUR_MAP, norm=scale, interpolation="nearest")
                    without_axes(axes)
            _, total, *size = outputs.shape
            heading = f"{layer}: {len(shown[0])} of {total}\nchannels, {size[0]} x {size[1]} px"
            x, y = left + BLOCK / 2, height - HEADER - ROW_TITLE + 0.08
            figure.text(x / width, y / height, heading, ha="center", va="bottom")
            axes = _axes(figure, left, FOOTER - 0.27, BLOCK, 0.12)
            mappable = ScalarMappable(scale, COLOUR_MAP)
            bar = figure.colorbar(mappable, cax=axes, orientation="horizontal")
            bar.set_label(f"{layer} output")
            bar.ax.locator_params(nbins=5)
            bar.outline.set_visible(False)
    return figure


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place given in inches."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / down, width / across, height / down))
