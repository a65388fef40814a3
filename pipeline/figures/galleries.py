"""Test images that say something: confident mistakes, and what only one of a pair got right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
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
    items: Sequence[Sequence[Panel]]  # of each image, from left to right
    colour: str


def draw_mistakes(
    run: Run,
    images: np.ndarray,
    rows: np.ndarray,
    classes: Sequence[str],
    maps: np.ndarray | None,
) -> Figure | None:
    """Draw the most confident mistakes of a network, the most confident first.

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
    items = [_item(images[rows[n]], n, [("predicted", run, maps)], classes) for n in chosen]
    title = f"Most confident mistakes of {shortened(run.model, 24)}"
    return _draw_groups([Group(title, items, "white")], min(MISTAKES_ACROSS, len(items)))


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

    Both runs have the same test images; the arguments are those of `draw_mistakes`.

    Returns:
        None if there is no such image.
    """
    both = ((baseline, baseline_maps), (candidate, candidate_maps))
    networks = [(shortened(run.model, NAME_WIDTH), run, maps) for run, maps in both]
    gained, lost = clearest_disagreements(candidate, baseline)
    found = [("Gained", networks[1][0], gained, GAINED), ("Lost", networks[0][0], lost, LOST)]
    groups = []
    for change, name, chosen, colour in found:
        items = [_item(images[rows[n]], n, networks, classes) for n in chosen]
        if items:
            groups.append(Group(f"{change}: only {name} is right", items, colour))
    if not groups:
        return None
    return _draw_groups(groups, 1 if len(groups[0].items[0]) > 1 else ALONE_ACROSS)


def most_confident_mistakes(run: Run) -> np.ndarray:
    """Return which test images, int64 (up to `MOST_MISTAKES`,), the most confident first."""
    probabilities = softmax(run.logits.astype(np.float64), axis=1)
    wrong = np.flatnonzero(run.logits.argmax(axis=1) != run.labels)
    surest = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[surest[:MOST_MISTAKES]]


def clearest_disagreements(candidate: Run, baseline: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return which test images were gained and lost, int64 (up to `MOST_EACH_WAY`,) each.

    Those come first for which the probability of the true class differs most.
    """
    images, labels = np.arange(len(candidate.labels)), candidate.labels
    ours, theirs = (
        softmax(run.logits.astype(np.float64), axis=1)[images, labels]
        for run in (candidate, baseline)
    )
    right, right_before = (run.logits.argmax(axis=1) == labels for run in (candidate, baseline))
    rise = ours - theirs
    gained, lost = np.flatnonzero(right & ~right_before), np.flatnonzero(right_before & ~right)
    return (
        gained[np.argsort(-rise[gained], kind="stable")[:MOST_EACH_WAY]],
        lost[np.argsort(rise[lost], kind="stable")[:MOST_EACH_WAY]],
    )


def _item(
    image: np.ndarray,
    n: int,
    networks: Sequence[tuple[str, Run, np.ndarray | None]],
    classes: Sequence[str],
) -> Sequence[Panel]:
    """Return the panels of test image `n`: itself, then what each network looked at.

    `networks` are names, runs and their maps; without maps the predicted classes, with their
    probabilities, stand above the image.
    """
    image = np.asarray(image)
    truth = shortened(classes[networks[0][1].labels[n]], NAME_WIDTH)
    answers = []
    for name, run, _ in networks:
        best = int(run.logits[n].argmax())
        probability = softmax(run.logits[n].astype(np.float64))[best]
        label = shortened(classes[best], NAME_WIDTH)
        answers.append((name, f"{label} ({100 * probability:.1f} %)"))
    heats = [maps[n] for *_, maps in networks if maps is not None]
    if len(heats) < len(networks):
        lines = [f"true: {truth}", *(f"{name}: {answer}" for name, answer in answers)]
        return [Panel(image, None, "\n".join(lines))]
    overlaid = [
        Panel(image, heat, f"{name}:\n{answer}")
        for heat, (name, answer) in zip(heats, answers, strict=True)
    ]
    return [Panel(image, None, f"true:\n{truth}"), *overlaid]


def _draw_groups(groups: Sequence[Group], across: int) -> Figure:
    """Draw groups side by side, each with so many images across, and the maps' colour scale."""
    panels = len(groups[0].items[0])
    columns = panels + 1  # a gap to the right of each image
    width = across * ((PANEL if panels > 1 else ALONE) * panels + GAP)
    down = max(-(-len(group.items) // across) for group in groups)
    widths = [max(width, 4.2)] * len(groups) + [SCALE] * (panels > 1)
    with style():
        figure = Figure(figsize=(sum(widths), 2.0 * down + 0.5), layout="constrained")
        parts = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
        for part, group in zip(parts, groups, strict=False):
            part.set_facecolor(group.colour)
            part.suptitle(group.title, fontsize=13)
            grid = part.add_gridspec(
                down, across * columns, width_ratios=([1] * panels + [0.1]) * across
            )
            for n, item in enumerate(group.items):
                for k, panel in enumerate(item):
                    axes = part.add_subplot(grid[n * columns + k])
                    if panel.heat is None:
                        show_image(axes, panel.image)
                    else:
                        show_heat(axes, panel.image, panel.heat)
                    axes.set_title(panel.title, fontsize=10)
        if panels > 1:
            scale = parts[-1].add_axes((0.15, 0.2, 0.18, 0.6))
            draw_heat_scale(parts[-1], scale, "Grad-CAM")
    return figure
