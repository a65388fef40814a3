"""One look for every figure, and files with the same bytes on every run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from pipeline.figures.fonts import drawable, set_fonts

SETTINGS: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "figure.titlesize": 14,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 2.0,
    "svg.fonttype": "none",  # text stays text: small, and to be found and copied
    "svg.hashsalt": "regard",  # else names in the file are drawn anew each time
}

# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")

# Where the colours start again, the marker changes.
MARKERS = ("D", "o", "s", "^", "v", "P")

TAG = re.compile(r"<[^>]+>")
NOT_SEEN = re.compile(r"(\d\.\d\d)\d+| transform=\"rotate\(-?0 [^\"]*\"")

HEAT_COLOURS = "viridis"
HEAT_LABEL = "share of the map's maximum"


@dataclass(frozen=True)
class Look:
    """How a kind of heatmap is named and drawn."""

    name: str
    colour: str
    line: str
    marker: str


# Controls are grey: they say nothing of the network.
HEATMAPS = {
    "grad_cam": Look("Grad-CAM", COLOURS[0], "-", "D"),
    "layer_cam": Look("LayerCAM", COLOURS[1], "-", "o"),
    "strongest_channel": Look("strongest channel", COLOURS[2], "-", "s"),
    "random": Look("control: random", "#777777", "--", "X"),
    "centre": Look("control: centre", "#222222", ":", "P"),
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style, whatever the person's own matplotlib settings are."""
    with matplotlib.style.context(["default", SETTINGS]):
        yield


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return one colour for each name, the same for the same order of names."""
    return {name: COLOURS[position % len(COLOURS)] for position, name in enumerate(names)}


def markers(names: Sequence[str]) -> dict[str, str]:
    """Return a marker for each name: with its colour it stands for that name alone."""
    cycles = {name: position // len(COLOURS) for position, name in enumerate(names)}
    return {name: MARKERS[cycle % len(MARKERS)] for name, cycle in cycles.items()}


def save(figure: Figure, path: Path, keywords: Mapping[str, str] | None = None) -> None:
    """Write `figure` without the metadata that would change its bytes; its folder is made.

    Drawings are ``.svg``, what shows photographs or maps is ``.png``. `keywords` are what a PNG
    says besides: text by keyword.
    """
    own = {".svg": ("Date", "Creator", "Format", "Type"), ".png": ("Software",)}[path.suffix]
    about = dict.fromkeys(own) | dict(keywords or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    set_fonts(figure)
    with style():  # fonts and transparency are looked up only now
        figure.savefig(path, metadata=about, facecolor="white", transparent=False)
    if path.suffix == ".svg":
        # nobody sees less than a hundredth of a point, nor a turn by none: a third of the file
        drawing = TAG.sub(lambda tag: NOT_SEEN.sub(r"\1", tag[0]), path.read_text("utf-8"))
        path.write_text(drawing, encoding="utf-8")


def draw_runs(axes: Axes, row: float, values: Iterable[float], colour: str) -> None:
    """Draw a dot for each run beneath `row`, the next one lower where two would hide each other.

    All else is drawn before: how near they are depends on how wide the axes are.
    """
    low, high = axes.get_xlim()
    ordered, heights = sorted(values), []
    last: list[float] = []  # the last dot of each level
    for value in ordered:
        free = (k for k, before in enumerate(last) if value - before > 0.025 * (high - low))
        level = next(free, len(last))
        last[level : level + 1] = [value]
        heights.append(row + 0.2 + 0.12 * level)
    axes.plot(ordered, heights, "o", color=colour, markersize=4, alpha=0.7, markeredgewidth=0)


def panel_grid(panels: int, most_across: int) -> tuple[int, int]:
    """Return the columns and rows of a grid that holds so many panels."""
    across = min(most_across, panels)
    return across, -(-panels // across)


def draw_legend(figure: Figure, looks: Sequence[Mapping[str, Any]]) -> None:
    """Draw a legend beneath all panels, in as many columns as the figure is wide.

    `looks` are the keywords of a `Line2D` for each entry, its label among them.
    """
    handles = [Line2D([], [], **look) for look in looks]
    longest = max(len(look["label"]) for look in looks)
    widest = 0.7 + 0.08 * longest  # inches: the handle, then the letters
    columns = max(1, min(int(figure.get_figwidth() / widest), len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def show_image(
    axes: Axes, image: np.ndarray, extent: tuple[float, float, float, float] | None = None
) -> None:
    """Draw a photograph, uint8 (H, W, C) with C 1 or 3, pixel by pixel and without axes.

    `extent` is its left, right, bottom and top in the axes' own units, else a pixel is one.
    """
    grey = image.shape[2] == 1
    axes.imshow(
        image[:, :, 0] if grey else image,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        extent=extent,
    )
    without_axes(axes)


def show_classified(axes: Axes, image: np.ndarray, true: str, predicted: str) -> None:
    """Draw an image, uint8 (H, W, C) with C 1 or 3, under what it is and what it was taken for."""
    show_image(axes, image)
    axes.set_title(f"true: {shortened(true)}\npredicted: {shortened(predicted)}")


def show_heat(axes: Axes, image: np.ndarray, heat: np.ndarray) -> None:
    """Draw `heat`, float (h, w) in [0, 1], as large as `image`, which belongs beside it.

    Laid over the image its colours would be none of the scale's.
    """
    height, width = image.shape[:2]
    axes.imshow(
        heat, cmap=HEAT_COLOURS, vmin=0, vmax=1, interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    without_axes(axes)


def draw_heat_scale(part: FigureBase, axes: Axes, label: str) -> None:
    """Draw the colour scale of `show_heat` into `axes` of a figure or a part of one."""
    scale = ScalarMappable(Normalize(0, 1), matplotlib.colormaps[HEAT_COLOURS])
    part.colorbar(scale, cax=axes).set_label(label)


def without_axes(axes: Axes) -> None:
    """Take away ticks and frame, keeping title and labels."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def shortened(text: str, width: int = 18) -> str:
    """Return `text`, cut to `width` characters, on one line, safe to draw, without empty boxes."""
    line = drawable(" ".join(text.split()))
    cut = line if len(line) <= width else line[: width - 3] + "..."
    # A dollar sign would start matplotlib's mathematics mode.
    return cut.replace("$", r"\$")
