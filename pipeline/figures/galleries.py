"""Test images that say something: confident mistakes, and what only one of a pair got right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure
from scipy.special import softmax

from pipeline.comparison.runs import Run
from pipeline.figures.style import draw_heat_scale, shortened, show_heat, show_image, style

MOST_MISTAKES = 12
MISTAKES_ACROSS = 3
ALONE_ACROSS = 2
MOST_EACH_WAY = 6
NAME_WIDTH = 14
PANEL, ALONE, GAP, SCALE = 1.55, 2.6, 0.2, 1.1  # widths in inches
GAINED, LOST = "#E6F1F8", "#FBEBDD"  # paler than any network's colour

# The panels of one test image, from left to right.
Item = Sequence["Panel"]


@dataclass(frozen=True)
class Panel:
    """An image, with a heatmap over it or without, and what stands above it."""

    image: np.ndarray
    heat: np.ndarray | None
    title: str


@dataclass(frozen=True)
class Group:
    """Test images that belong together, on a ground of one colour."""

    title: str
    items: Sequence[Item]
    colour: str


def draw_mistakes(
    run: Run,
    images: np.ndarray,
    rows: np.ndarray,
    classes: Sequence[str],
    maps: np.ndarray | None,
) -> Figure | None:
    """Draw the mistakes that a network was surest of, the surest first.

    Args:
        run: of the network.
        images: uint8 (M, H, W, C), possibly memory-mapped.
        rows: int64 (N,), where in `images` the run's test images are.
        classes: the K names.
        maps: float16 (N, h, w) in [0, 1], Grad-CAM of the predicted class; None to draw the images
            alone.

    Returns:
        None if there is no mistake.
    """
    chosen = most_confident_mistakes(run)
    if not len(chosen):
        return None
    items = [
        _item(np.asarray(images[rows[n]]), n, [(run, maps)], ["said"], classes) for n in chosen
    ]
    title = f"The mistakes that {shortened(run.model, 24)} was surest of"
    across = min(MISTAKES_ACROSS, len(items))
    return _draw_groups([Group(title, items, "white")], across)


def draw_disagreements(
    candidate: Run,
    baseline: Run,
    images: np.ndarray,
    rows: np.ndarray,
    classes: Sequence[str],
    candidate_maps: np.ndarray | None,
    baseline_maps: np.ndarray | None,
) -> Figure | None:
    """Draw test images that only one of two networks got right: gained left, lost right.

    Args:
        candidate: a run of the candidate.
        baseline: the run of the baseline on the same test images.
        images: uint8 (M, H, W, C), possibly memory-mapped.
        rows: int64 (N,), where in `images` the runs' test images are.
        classes: the K names.
        candidate_maps: float16 (N, h, w) in [0, 1], Grad-CAM of what the candidate predicted; None
            to draw the images alone.
        baseline_maps: the same of the baseline.

    Returns:
        None if there is no such image.
    """
    gained, lost = clearest_disagreements(candidate, baseline)
    networks = [(baseline, baseline_maps), (candidate, candidate_maps)]
    names = [shortened(run.model, NAME_WIDTH) for run, _ in networks]
    items = {
        n: _item(np.asarray(images[rows[n]]), n, networks, names, classes) for n in (*gained, *lost)
    }
    groups = [
        Group(f"Gained: only {names[1]} is right", [items[n] for n in gained], GAINED),
        Group(f"Lost: only {names[0]} is right", [items[n] for n in lost], LOST),
    ]
    drawn = [group for group in groups if group.items]
    if not drawn:
        return None
    across = 1 if len(drawn[0].items[0]) > 1 else ALONE_ACROSS
    return _draw_groups(drawn, across)


def most_confident_mistakes(run: Run) -> np.ndarray:
    """Return which test images, int64 (up to `MOST_MISTAKES`,), the surest mistake first."""
    probabilities = softmax(run.logits.astype(np.float64), axis=1)
    wrong = np.flatnonzero(run.logits.argmax(axis=1) != run.labels)
    surest = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[surest[:MOST_MISTAKES]]


def clearest_disagreements(candidate: Run, baseline: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return which test images were gained and lost, int64 (up to `MOST_EACH_WAY`,) each.

    Those come first for which the probability of the true class differs most.
    """
    every, labels = np.arange(len(candidate.labels)), candidate.labels
    of_truth, correct = [], []
    for run in (candidate, baseline):
        of_truth.append(softmax(run.logits.astype(np.float64), axis=1)[every, labels])
        correct.append(run.logits.argmax(axis=1) == labels)
    rise = of_truth[0] - of_truth[1]
    gained, lost = (
        np.flatnonzero(correct[0] & ~correct[1]),
        np.flatnonzero(correct[1] & ~correct[0]),
    )
    return (
        gained[np.argsort(-rise[gained], kind="stable")[:MOST_EACH_WAY]],
        lost[np.argsort(rise[lost], kind="stable")[:MOST_EACH_WAY]],
    )


def _item(
    image: np.ndarray,
    n: int,
    networks: Sequence[tuple[Run, np.ndarray | None]],
    names: Sequence[str],
    classes: Sequence[str],
) -> Item:
    """Return the panels of a test image: itself, then what each network looked at.

    Args:
        image: uint8 (H, W, C).
        n: which test image.
        networks: runs with their maps; without maps what they said stands above the image.
        names: what to call each of them.
        classes: the K names.
    """
    truth = shortened(classes[networks[0][0].labels[n]], NAME_WIDTH)
    said = [_said(run, n, classes) for run, _ in networks]
    heats = [maps[n] for _, maps in networks if maps is not None]
    if len(heats) < len(networks):
        lines = [f"{name}: {words}" for name, words in zip(names, said, strict=True)]
        return [Panel(image, None, "\n".join([f"true: {truth}", *lines]))]
    shown = [
        Panel(image, heat, f"{name}:\n{words}")
        for heat, name, words in zip(heats, names, said, strict=True)
    ]
    return [Panel(image, None, f"true:\n{truth}"), *shown]


def _said(run: Run, n: int, classes: Sequence[str]) -> str:
    """Return the class that a run predicted for test image `n`, and how surely."""
    best = int(run.logits[n].argmax())
    probability = softmax(run.logits[n].astype(np.float64))[best]
    return f"{shortened(classes[best], NAME_WIDTH)} ({100 * probability:.1f} %)"


def _draw_groups(groups: Sequence[Group], across: int) -> Figure:
    """Draw groups side by side, each with so many images across, and the maps' colour scale."""
    panels = len(groups[0].items[0])
    width = across * ((PANEL if panels > 1 else ALONE) * panels + GAP)
    down = max(-(-len(group.items) // across) for group in groups)
    widths = [max(width, 4.2)] * len(groups) + [SCALE] * (panels > 1)
    with style():
        figure = Figure(figsize=(sum(widths), 2.0 * down + 0.5), layout="constrained")
        parts = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
        for part, group in zip(parts, groups, strict=False):
            part.set_facecolor(group.colour)
            part.suptitle(group.title, fontsize=13)
            _draw_items(part, group.items, across, down)
        if panels > 1:
            scale = parts[-1].add_axes((0.15, 0.2, 0.18, 0.6))
            draw_heat_scale(parts[-1], scale, "Grad-CAM")
    return figure


def _draw_items(part: SubFigure, items: Sequence[Item], across: int, down: int) -> None:
    """Draw items in rows, with a gap to the right of each."""
    panels = len(items[0])
    axes = part.subplots(
        down, across * (panels + 1), squeeze=False, width_ratios=([1] * panels + [0.1]) * across
    )
    for unused in axes.flat:
        unused.set_axis_off()
    for position, item in enumerate(items):
        row, column = divmod(position, across)
        for place, panel in enumerate(item, start=column * (panels + 1)):
            axes[row, place].set_axis_on()
            if panel.heat is None:
                show_image(axes[row, place], panel.image)
            else:
                show_heat(axes[row, place], panel.image, panel.heat)
            axes[row, place].set_title(panel.title, fontsize=10)
