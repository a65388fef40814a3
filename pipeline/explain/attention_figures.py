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
    share_by_chance,
    variation,
)
from pipeline.explain.feature_maps import spread
from pipeline.figures.style import COLOURS, shortened, style, without_axes
from pipeline.models.attention import Kind

COLOUR_MAP = "viridis"
NARROW_PANEL_CHANNELS = 32
MOST_CLASS_NAMES = 20
MOST_MAPS = 10  # classes whose maps fit beside each other
LONGEST_MODULE_NAME = 40
LONGEST_LEVEL_NAME = 10  # characters of a class above a map
WIDTH = 11  # inches
PANEL_TITLE = 1080  # points * characters that fit above the figure's panels
VARYING, CONSTANT = COLOURS[0], "#888888"

LABELS: dict[Kind, str] = {
    "channel": "mean attention weight",
    "spatial": "mean attention weight",
    "self": "mean attention received\n(1: as much as given)",
}


def draw_attention(
    title: str, weights: Mapping[str, ModuleWeights], classes: Sequence[str]
) -> Figure:
    """Draw the mean weights of each class, one colour scale for each kind of attention.

    Channels' weights are one panel for each module, classes down and channels across; positions'
    are one row of maps for each module, a map for each class.
    """
    with style():
        by_kind: dict[Kind, dict[str, ModuleWeights]] = {}
        for name, of_module in weights.items():
            by_kind.setdefault(of_module.kind, {})[name] = of_module
        heights = [
            (_channels_height if kind == "channel" else _maps_height)(modules, classes)
            for kind, modules in by_kind.items()
        ]
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
        figure.suptitle(title)
        parts = figure.subfigures(len(by_kind), 1, squeeze=False, height_ratios=heights)
        for part, (kind, modules) in zip(parts.flat, by_kind.items(), strict=True):
            (_draw_channels if kind == "channel" else _draw_maps)(part, modules, classes)
    return figure


def _grid(modules: Mapping[str, ModuleWeights]) -> tuple[int, int]:
    """Return rows and columns of panels of channels."""
    widest = max(of_module.mean.shape[1] for of_module in modules.values())
    columns = 1 if widest > NARROW_PANEL_CHANNELS else min(3, len(modules))
    return -(-len(modules) // columns), columns


def _channels_height(modules: Mapping[str, ModuleWeights], classes: Sequence[str]) -> float:
    named = len(classes) <= MOST_CLASS_NAMES
    panel = max(1.6, 0.24 * len(classes)) if named else 3.0
    return (panel + 0.75) * _grid(modules)[0]


def _draw_channels(
    figure: SubFigure, modules: Mapping[str, ModuleWeights], classes: Sequence[str]
) -> None:
    rows, columns = _grid(modules)
    panels = figure.subplots(rows, columns, squeeze=False)
    scale = _scale(modules)
    for axes in panels.flat[len(modules) :]:
        axes.set_axis_off()
    for position, (name, of_module) in enumerate(modules.items()):
        axes = panels.flat[position]
        axes.imshow(
            of_module.mean, cmap=COLOUR_MAP, norm=scale, aspect="auto", interpolation="nearest"
        )
        title = f"{_named(name)}: {of_module.mean.shape[1]} channels"
        axes.set_title(title, fontsize=min(12, PANEL_TITLE / columns / len(title)))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if position // columns == rows - 1 or position + columns >= len(modules):
            axes.set_xlabel("channel")
        if position % columns:
            axes.set_yticks([])
        else:
            _name_classes(axes, classes)
    _draw_scale(figure, panels, scale, modules)


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    if len(classes) > MOST_CLASS_NAMES:
        axes.set_ylabel("class number")
        return
    axes.set_yticks(range(len(classes)), [shortened(name) for name in classes], fontsize=10)
    axes.set_ylabel("class")


def _maps_height(modules: Mapping[str, ModuleWeights], classes: Sequence[str]) -> float:
    shown = min(len(classes), MOST_MAPS)
    row = float(np.clip(8 / shown, 0.8, 1.7)) + 0.12
    return row * len(modules) + (0.9 if _turned(classes) else 0.4)


def _turned(classes: Sequence[str]) -> bool:
    """Return whether class names are too long to stand side by side."""
    return max(len(name) for name in classes) > LONGEST_LEVEL_NAME


def _draw_maps(
    figure: SubFigure, modules: Mapping[str, ModuleWeights], classes: Sequence[str]
) -> None:
    shown = spread([str(number) for number in range(len(classes))], MOST_MAPS)
    if len(shown) < len(classes):
        figure.suptitle(f"{len(shown)} of {len(classes)} classes", fontsize=12)
    panels = figure.subplots(len(modules), len(shown), squeeze=False)
    scale = _scale(modules)
    for row, (name, of_module) in zip(panels, modules.items(), strict=True):
        height, width = of_module.shape
        for axes, number in zip(row, map(int, shown), strict=True):
            means = of_module.mean[number].reshape(height, width)
            axes.imshow(means, cmap=COLOUR_MAP, norm=scale, interpolation="nearest")
            without_axes(axes)
        levels = _named(name).replace(".", "\n")
        row[0].set_ylabel(
            f"{levels}\n{height} x {width}", fontsize=10, rotation=0, ha="right", va="center"
        )
    turned = {"rotation": 30, "ha": "left"} if _turned(classes) else {}
    for axes, number in zip(panels[0], map(int, shown), strict=True):
        axes.set_title(shortened(classes[number]), fontsize=10, **turned)
    _draw_scale(figure, panels, scale, modules)


def _scale(modules: Mapping[str, ModuleWeights]) -> Normalize:
    """Return one colour scale for all modules; rounding is not spread over all its colours."""
    low = min(np.nanmin(of_module.mean) for of_module in modules.values())
    high = max(np.nanmax(of_module.mean) for of_module in modules.values())
    least = CONSTANT_BELOW * abs(high)
    return Normalize(low, high) if high - low > least else Normalize(low - least, high + least)


def _draw_scale(
    figure: SubFigure, panels: np.ndarray, scale: Normalize, modules: Mapping[str, ModuleWeights]
) -> None:
    rows = len(panels)
    bar = figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP), ax=panels, shrink=min(1.0, 0.4 + 0.3 / rows), aspect=25
    )
    bar.set_label(LABELS[next(iter(modules.values())).kind])


def draw_attention_variation(model: str, weights: Mapping[str, ModuleWeights]) -> Figure:
    """Draw for each module, shallow to deep, what its weights are and whether they vary.

    From left to right: the mean weights of its channels or positions, the sd of a weight over the
    images in percent of the mean weight, and the share of that variance which the class explains.
    A module whose weights hardly vary is grey.
    """
    varying = {name: variation(of_module) for name, of_module in weights.items()}
    constant = sum(of_module.constant for of_module in varying.values())
    images = next(iter(weights.values())).images
    row = float(np.clip(15 / len(weights), 0.16, 0.34))  # inches
    with style():
        figure = Figure(figsize=(WIDTH, max(1.5, row * len(weights)) + 2.2), layout="constrained")
        figure.suptitle(
            f"Attention in {shortened(model, 40)}: {constant} of {len(weights)} modules are scale "
            f"factors,\nwhose weights vary by {100 * CONSTANT_BELOW:g} % or less over the images"
        )
        between, over_images, by_class = figure.subplots(1, 3, sharey=True)
        for place, of_module in enumerate(varying.values()):
            colour = CONSTANT if of_module.constant else VARYING
            _draw_range(between, place, of_module.means, colour)
            _draw_stick(over_images, place, 100 * of_module.relative_sd, colour)
            _draw_stick(by_class, place, 100 * of_module.share_by_class, colour)
        _name_modules(between, list(weights), 11 if row > 0.25 else 48 * row)
        _label_weights(between, max(of_module.means.max() for of_module in varying.values()))
        _label_sd(over_images, 100 * max(of_module.relative_sd for of_module in varying.values()))
        _label_share(by_class, 100 * share_by_chance(images))
    return figure


def _draw_range(axes: Axes, place: int, values: np.ndarray, colour: str) -> None:
    low, lower, middle, upper, high = np.percentile(values, [0, 25, 50, 75, 100])
    axes.hlines(place, low, high, colour, linewidth=1)
    axes.hlines(place, lower, upper, colour, linewidth=5, alpha=0.5)
    axes.plot(middle, place, "o", color=colour, markersize=5)


def _draw_stick(axes: Axes, place: int, value: float, colour: str) -> None:
    axes.hlines(place, 0, value, colour, linewidth=1)
    axes.plot(value, place, "o", color=colour, markersize=5, clip_on=False)


def _name_modules(axes: Axes, names: Sequence[str], size: float) -> None:
    axes.set_yticks(range(len(names)), [_named(name) for name in names])
    axes.tick_params(axis="y", labelsize=size)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_ylabel("module, shallow to deep")


def _label_weights(axes: Axes, highest: float) -> None:
    axes.set_xlim(0, max(1, 1.05 * highest))
    axes.set_title("What are its weights?")
    axes.set_xlabel("mean of each weight over images:\nall, middle half, median")


def _label_sd(axes: Axes, highest: float) -> None:
    threshold = 100 * CONSTANT_BELOW
    axes.axvspan(0, threshold, color=CONSTANT, alpha=0.15, linewidth=0)
    axes.axvline(threshold, color=CONSTANT, linewidth=1, linestyle="--")
    axes.set_xscale("symlog", linthresh=threshold)  # a log scale that reaches zero
    axes.set_xlim(0, max(200, 1.5 * highest))
    axes.xaxis.set_major_locator(FixedLocator([0, 1, 10, 100, 1000, 10000]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title("Does it vary with the image?")
    axes.set_xlabel("sd over images [% of mean weight]\nshaded: a scale factor")


def _label_share(axes: Axes, by_chance: float) -> None:
    axes.axvline(by_chance, color=CONSTANT, linewidth=1, linestyle="--")
    axes.set_xlim(0, 100)
    axes.set_title("Does the class explain it?")
    axes.set_xlabel("share of that variance [%]\ndashed: by chance")


def _named(module: str) -> str:
    return shortened(module, LONGEST_MODULE_NAME)
