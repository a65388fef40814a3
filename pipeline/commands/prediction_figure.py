"""The figure of one classified image, and its file, which never replaces another image's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from pipeline.commands.prediction_answers import Prediction
from pipeline.figures.style import (
    COLOURS,
    HEAT_LABEL,
    draw_heat_scale,
    shortened,
    show_heat,
    show_image,
    style,
)
from pipeline.figures.style import save as save_png
from pipeline.storage.atomic import atomic_file
from pipeline.system.text import printable

SOURCE = "Source"  # keyword in the PNG file
LONGEST_NAME = 150  # in bytes; file systems take 255
LONGEST_TITLE = 60
LONGEST_CLASS = 24
MOST_BARS = 5
DIGEST_LENGTH = 16


def draw_prediction(
    model: str, prediction: Prediction, image: np.ndarray, class_map: np.ndarray
) -> Figure:
    """Draw an image, uint8 (H, W, 3), a heatmap beside it, and its likeliest classes.

    The heatmap is `class_map`, float (h, w), not negative: what speaks for the likeliest class. It
    is divided by its maximum, and drawn as coarse as it is.
    """
    with style():
        figure = Figure(figsize=(13.5, 4.6), layout="constrained")
        file = Path(*prediction.file.parts[-2:])  # with its folder: another may have its name
        figure.suptitle(shortened(printable(f"{model}: {file}"), LONGEST_TITLE))
        parts = figure.subfigures(1, 2, squeeze=False, width_ratios=[2.2, 1.3], wspace=0.03)
        left, right = parts[0]
        original, heat, scale = left.subplots(1, 3, width_ratios=[1, 1, 0.04])
        show_image(original, image)
        original.set_title("image")
        show_heat(heat, image, class_map / (class_map.max() or 1))
        height, width = class_map.shape
        heat.set_title(
            f"Grad-CAM of {_name(prediction.drawn[0])},\nmean of the seeds, {height} x {width}"
        )
        draw_heat_scale(left, scale, HEAT_LABEL)

        axes, shown = right.subplots(), prediction.probabilities[:MOST_BARS]
        drawn = axes.barh(range(len(shown)), shown, color=COLOURS[0])
        axes.bar_label(drawn, [f"{value:.1%}" for value in shown], padding=3)
        axes.set_yticks(range(len(shown)), [_name(name) for name in prediction.drawn[:MOST_BARS]])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.18)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("probability, mean of the seeds")
        axes.set_title(f"{prediction.agreement} seeds say {_name(prediction.drawn[0])}")
    return figure


def own_path(folder: Path, image: Path) -> Path:
    """Return where the figure of an image goes: under the image's name, unless that is taken.

    It is taken where there is a file that is no figure of this image; then a digest of where the
    image lies is added to the name.
    """
    path, digest, source = folder / f"{safe_name(image)}.png", _digest(image), None
    with contextlib.suppress(OSError), Image.open(path) as figure:  # else it isn't one of ours
        source = figure.info.get(SOURCE)
    taken = path.exists() and source != digest
    return path.with_name(f"{path.stem}-{digest}.png") if taken else path


def save(figure: Figure, prediction: Prediction) -> None:
    """Write the figure of a prediction as PNG, with a digest that says which image it is of."""
    with atomic_file(prediction.figure) as path:
        save_png(figure, path, {SOURCE: _digest(prediction.file)})


def safe_name(image: Path) -> str:
    """Return the name of a file without its ending, of characters that every system takes."""
    kept = re.sub(r"[^\w.-]", "_", image.stem)
    cut = kept.encode("utf-8")[:LONGEST_NAME].decode("utf-8", "ignore")
    return cut.lstrip(".") or "image"


def _digest(image: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(image))).hexdigest()[:DIGEST_LENGTH]


def _name(class_name: str) -> str:
    return shortened(printable(class_name), LONGEST_CLASS)
