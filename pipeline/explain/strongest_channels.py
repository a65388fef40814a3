"""Heatmaps: where in the image the strongest channels of the deepest layer respond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.ndimage import zoom

from pipeline.figures.style import show_classified, show_image, style

COLOUR_MAP = "jet"
ALPHA = 0.5


def strongest_channels(maps: np.ndarray, count: int) -> np.ndarray:
    """Return the channels of `maps`, float (C, H, W), with the highest mean activation.

    The highest comes first, of equal means the lower channel: int64 (min(count, C),).
    """
    return np.argsort(-maps.mean(axis=(1, 2)), kind="stable")[:count]


def heatmap(channel_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a channel's output (h, w) to [0, 1] by its minimum and maximum, and to `size`.

    A constant map becomes all zeros.
    """
    low, high = float(channel_map.min()), float(channel_map.max())
    scaled = (channel_map.astype(np.float64) - low) / (high - low or 1.0)
    factors = (size[0] / scaled.shape[0], size[1] / scaled.shape[1])
    # Linear, so that nothing overshoots [0, 1]; grid_mode lines up pixel areas, not pixel centres.
    return zoom(scaled, factors, order=1, mode="nearest", grid_mode=True)


def strongest_channel_maps(maps: np.ndarray) -> np.ndarray:
    """Return each image's strongest channel as its heatmap shows it, at the layer's own size.

    `maps` are a layer's output, float (B, C, h, w); the channels float32 (B, h, w) in [0, 1].
    """
    strongest = [image[strongest_channels(image, 1)[0]] for image in maps]
    return np.stack([heatmap(one, one.shape) for one in strongest]).astype(np.float32)


def draw_heatmaps(
    title: str,
    images: np.ndarray,
    true_classes: Sequence[str],
    predicted_classes: Sequence[str],
    maps: np.ndarray,
    channels: Sequence[np.ndarray],
) -> Figure:
    """Draw one row for each image: the image, then its strongest channels laid over it.

    `images` are uint8 (B, H, W, C), `maps` the layer's output, float (B, C, h, w), and `channels`
    those to draw of each image.
    """
    with style():
        rows, columns = len(images), 1 + max(len(chosen) for chosen in channels)
        scale = Normalize(0, 1)
        figure = Figure(figsize=(2.6 * columns + 0.8, 2.97 * rows + 0.5), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(rows, columns, squeeze=False)
        for row, image in enumerate(images):
            show_classified(panels[row, 0], image, true_classes[row], predicted_classes[row])
            for axes in panels[row, 1:]:
                axes.set_axis_off()
            for axes, channel in zip(panels[row, 1:], channels[row], strict=False):
                axes.set_axis_on()
                show_image(axes, image)
                heat = heatmap(maps[row, channel], image.shape[:2])
                axes.imshow(heat, COLOUR_MAP, scale, alpha=ALPHA, interpolation="nearest")
                axes.set_title(f"channel {channel}\nmean {maps[row, channel].mean():.3g}")
    return figure
