"""One look for every figure, and PNG files with the same bytes on every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SETTINGS: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
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
}

# Okabe and Ito's colours, told apart with every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style, whatever the person's own matplotlib settings are."""
    with matplotlib.style.context(["default", SETTINGS]):
        yield


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return one colour for each name, the same for the same order of names."""
    return {name: COLOURS[position % len(COLOURS)] for position, name in enumerate(names)}


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG without the metadata that would change its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draw a photograph, uint8 (H, W, C) with C 1 or 3, pixel by pixel and without axes."""
    grey = image.shape[2] == 1
    axes.imshow(
        image[:, :, 0] if grey else image,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )
    without_axes(axes)


def without_axes(axes: Axes) -> None:
    """Take away ticks and frame, keeping title and labels."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def shortened(text: str, width: int = 18) -> str:
    """Return `text`, cut to `width` characters, safe to draw."""
    # A dollar sign would start matplotlib's mathematics mode.
    cut = text if len(text) <= width else text[: width - 3] + "..."
    return cut.replace("$", r"\$")


def line_style(baselines: Mapping[str, str | None], name: str) -> Literal["-", "--"]:
    """Return dashed for a control (an architecture without a baseline), solid otherwise."""
    return "--" if baselines[name] is None else "-"
