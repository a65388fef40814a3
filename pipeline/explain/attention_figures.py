"""Figures of attention weights: by class, and how much they vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter

from pipeline.explain.attention_weights import (
    CONSTANT_BELOW,
    ModuleWeights,
    expected_share,
    variation,
)
from pipeline.explain.choice import spread
from pipeline.figures.style import COLOURS, panel_grid, shortened, style, without_axes
from pipeline.models.attention import Kind

COLOUR_MAP = "viridis"
NARROW_PANEL_CHANNELS = 32
MOST_CLASS_NAMES = 20
MOST_MAPS = 10  # classes whose maps fit beside each other
LONGEST_MODEL_NAME, LONGEST_MODULE_NAME = 40, 40
LONGEST_LEVEL_NAME = 10  # characters of a class above a map
WIDTH = 11  # inches
PANEL_TITLE = 1080  # points * characters that fit above the figure's panels
VARYING, CONSTANT = COLOURS[0], "#888888"

LABELS: dict[Kind, str] = {
    "channel": "mean attention weight",
    "spatial": "mean attention weight",
    "elementwise": "mean attention weight\n(mean over the channels)",
    "self": "mean attention received\n(1: as much as given)",
}


def draw_attention(
    title: str, weights: Mapping[str, ModuleWeights], classes: Sequence[str]
) -> Figure:
    """Draw the mean weights of each class, one colour scale for each kind of attention.

    Channels' weights are one panel for each module, classes down and channels across; positions'
    are one row of maps for each module, a map for each class, and elementwise ones likewise, in
    the mean over the channels. Modules that weight all alike are named, where others are drawn.
    """
    alike = {
        name: float(np.nanmean(module.mean))
        for name, module in weights.items()
        if np.nanmax(module.mean) - np.nanmin(module.mean)
        <= CONSTANT_BELOW * abs(np.nanmax(module.mean))
    }
    if 0 < len(alike) < len(weights):
        named = ", ".join(f"{shortened(name, 24)} ({mean:.2f})" for name, mean in alike.items())
        title += f"\nnot drawn, since all its weights are the same: {named}"
        weights = {name: module for name, module in weights.items() if name not in alike}
    by_kind: dict[Kind, dict[str, ModuleWeights]] = {}
    for name, module in weights.items():
        by_kind.setdefault(module.kind, {})[name] = module
    heights = []  # inches
    for kind, modules in by_kind.items():
        if kind == "channel":
            panel = max(1.6, 0.24 * len(classes)) if len(classes) <= MOST_CLASS_NAMES else 3.0
            heights.append((panel + 0.75) * _grid(modules)[1])
        else:
            row = float(np.clip(8 / min(len(classes), MOST_MAPS), 0.8, 1.7)) + 0.12
            heights.append(row * len(modules) + (0.9 if _turned(classes) else 0.4))
    with style():
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
        figure.suptitle(title)
        parts = figure.subfigures(len(by_kind), 1, squeeze=False, height_ratios=heights)
        for part, (kind, modules) in zip(parts.flat, by_kind.items(), strict=True):
            low = min(np.nanmin(module.mean) for module in modules.values())
            high = max(np.nanmax(module.mean) for module in modules.values())
            least = CONSTANT_BELOW * abs(high)  # rounding is not spread over all colours
            if high - low <= least:
                low, high = low - least, high + least
            scale = Normalize(low, high)
            draw = _draw_channels if kind == "channel" else _draw_maps
            panels = draw(part, modules, classes, scale)
            mappable, shrink = ScalarMappable(scale, COLOUR_MAP), min(1.0, 0.4 + 0.3 / len(panels))
            bar = part.colorbar(mappable, ax=panels, shrink=shrink, aspect=25)
            bar.set_label(LABELS[kind])
    return figure


def _grid(modules: Mapping[str, ModuleWeights]) -> tuple[int, int]:
    """Return columns and rows of panels of channels."""
    widest = max(module.mean.shape[1] for module in modules.values())
    return panel_grid(len(modules), 1 if widest > NARROW_PANEL_CHANNELS else 3)


def _turned(classes: Sequence[str]) -> bool:
    """Return whether class names are too long to stand side by side."""
    return max(len(name) for name in classes) > LONGEST_LEVEL_NAME


def _draw_channels(
    figure: SubFigure,
    modules: Mapping[str, ModuleWeights],
    classes: Sequence[str],
    scale: Normalize,
) -> np.ndarray:
    """Draw a panel for each module; return the panels (rows, columns)."""
    columns, rows = _grid(modules)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(modules) :]:
        axes.set_axis_off()
    for position, (name, module) in enumerate(modules.items()):
        axes = panels.flat[position]
        axes.imshow(
            module.mean, cmap=COLOUR_MAP, norm=scale, aspect="auto", interpolation="nearest"
        )
        title = f"{shortened(name, LONGEST_MODULE_NAME)}: {module.mean.shape[1]} channels"
        axes.set_title(title, fontsize=min(12, PANEL_TITLE / columns / len(title)))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if position // columns == rows - 1 or position + columns >= len(modules):
            axes.set_xlabel("channel")
        if position % columns:
            axes.set_yticks([])
        elif len(classes) > MOST_CLASS_NAMES:
            axes.set_ylabel("class number")
        else:
            axes.set_yticks(range(len(classes)), [shortened(name) for name in classes], fontsize=10)
            axes.set_ylabel("class")
    return panels


def _draw_maps(
    figure: SubFigure,
    modules: Mapping[str, ModuleWeights],
    classes: Sequence[str],
    scale: Normalize,
) -> np.ndarray:
    """Draw a row of maps for each module; return the panels (modules, classes)."""
    shown = spread(range(len(classes)), MOST_MAPS)
    if len(shown) < len(classes):
        figure.suptitle(f"{len(shown)} of {len(classes)} classes", fontsize=12)
    panels = figure.subplots(len(modules), len(shown), squeeze=False)
    for row, (name, module) in zip(panels, modules.items(), strict=True):
        height, width = module.shape
        for axes, number in zip(row, shown, strict=True):
            means = module.mean[number].reshape(height, width)
            axes.imshow(means, cmap=COLOUR_MAP, norm=scale, interpolation="nearest")
            without_axes(axes)
        levels = shortened(name, LONGEST_MODULE_NAME).replace(".", "\n")
        label = f"{levels}\n{height} x {width}"
        row[0].set_ylabel(label, fontsize=10, rotation=0, ha="right", va="center")
    turned = {"rotation": 30, "ha": "left"} if _turned(classes) else {}
    for axes, number in zip(panels[0], shown, strict=True):
        axes.set_title(shortened(classes[number]), fontsize=10, **turned)
    return panels


def draw_attention_variation(model: str, weights: Mapping[str, ModuleWeights]) -> Figure:
    """Draw for each module, shallow to deep, what its weights are and whether they vary.

    From left to right: the mean of each weight, the sd of a weight over the images in percent of
    the mean weight, and the share of that variance which the class explains. A module whose weights
    hardly vary is grey.
    """
    varying = {name: variation(module) for name, module in weights.items()}
    constant = sum(module.constant for module in varying.values())
    row = float(np.clip(15 / len(weights), 0.16, 0.34))  # inches
    with style():
        figure = Figure(figsize=(WIDTH, max(1.5, row * len(weights)) + 2.2), layout="constrained")
        figure.suptitle(
            f"Attention in {shortened(model, LONGEST_MODEL_NAME)}: {constant} of {len(weights)} "
            f"modules are scale factors,\nwhose weights vary by {100 * CONSTANT_BELOW:g} % or less "
            "over the images"
        )
        between, over_images, by_class = figure.subplots(1, 3, sharey=True)
        for place, (name, module) in enumerate(varying.items()):
            colour = CONSTANT if module.constant else VARYING
            means = weights[name].mean_over_images
            low, lower, middle, upper, high = np.percentile(means, [0, 25, 50, 75, 100])
            between.hlines(place, low, high, colour, linewidth=1)
            between.hlines(place, lower, upper, colour, linewidth=5, alpha=0.5)
            between.plot(middle, place, "o", color=colour, markersize=5)
            _draw_stick(over_images, place, 100 * module.relative_sd, colour)
            _draw_stick(by_class, place, 100 * module.share_by_class, colour)

        names = [shortened(name, LONGEST_MODULE_NAME) for name in weights]
        between.set_yticks(range(len(names)), names)
        between.tick_params(axis="y", labelsize=11 if row > 0.25 else 48 * row)
        between.set_ylim(len(names) - 0.4, -0.6)
        between.set_ylabel("module, shallow to deep")
        highest = max(module.mean_over_images.max() for module in weights.values())
        between.set_xlim(0, max(1, 1.05 * highest))
        between.set_title("What are its weights?")
        between.set_xlabel("mean of each weight over images:\nall, middle half, median")

        threshold = 100 * CONSTANT_BELOW
        over_images.axvspan(0, threshold, color=CONSTANT, alpha=0.15, linewidth=0)
        over_images.axvline(threshold, color=CONSTANT, linewidth=1, linestyle="--")
        over_images.set_xscale("symlog", linthresh=threshold)  # a log scale that reaches zero
        highest = 100 * max(module.relative_sd for module in varying.values())
        over_images.set_xlim(0, max(200, 1.5 * highest))
        over_images.xaxis.set_major_locator(FixedLocator([0, 1, 10, 100, 1000, 10000]))
        over_images.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        over_images.set_title("Does it vary with the image?")
        over_images.set_xlabel("sd over images [% of mean weight]\nshaded: a scale factor")

        expected = 100 * expected_share(next(iter(weights.values())).images)
        by_class.axvline(expected, color=CONSTANT, linewidth=1, linestyle="--")
        by_class.set_xlim(0, 100)
        by_class.set_title("Does the class explain it?")
        by_class.set_xlabel("share of that variance [%]\ndashed: expected of random labels")
    return figure


def _draw_stick(axes: Axes, place: int, value: float, colour: str) -> None:
    axes.hlines(place, 0, value, colour, linewidth=1)
    axes.plot(value, place, "o", color=colour, markersize=5, clip_on=False)
