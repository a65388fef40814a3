from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.figures import galleries
from tests.unit.made_runs import CLASSES, made_run

IMAGES, SIZE = 120, 8


def answers(seed: int, images: int = IMAGES) -> np.ndarray:
    """Return logits of a network that is right about half of the time."""
    logits = np.random.default_rng(seed).normal(size=(images, len(CLASSES))).astype(np.float32)
    logits[np.arange(images), labels(images)] += 1
    return logits


def labels(images: int = IMAGES) -> np.ndarray:
    return np.arange(images) % len(CLASSES)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (2 * IMAGES, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(6).permutation(2 * IMAGES)[:IMAGES]


@pytest.fixture
def maps() -> np.ndarray:
    heat = np.random.default_rng(7).random((IMAGES, 4, 4))
    return (heat / heat.max(axis=(1, 2), keepdims=True)).astype(np.float16)


def panels(figure) -> list:
    """Return the axes that show an image, in the order they were drawn."""
    return [axes for axes in figure.axes if axes.get_images() and axes.get_title()]


def stated(title: str) -> float:
    """Return the probability in percent that stands in a title."""
    return float(re.search(r"\(([\d.]+) %\)", title)[1])


def test_mistakes_are_the_surest_ones_with_their_images_and_maps(images, rows, maps):
    run = made_run("ca_cnn", 0, labels(), answers(1))
    probabilities = softmax(run.logits.astype(np.float64), axis=1)
    wrong = [n for n in range(IMAGES) if probabilities[n].argmax() != run.labels[n]]
    expected = sorted(wrong, key=lambda n: -probabilities[n].max())[:12]
    drawn = panels(galleries.draw_mistakes(run, images, rows, CLASSES, maps))
    assert len(drawn) == 24
    for n, plain, beside in zip(expected, drawn[::2], drawn[1::2], strict=True):
        (image,) = plain.get_images()
        np.testing.assert_array_equal(image.get_array(), images[rows[n]])
        assert image.get_interpolation() == "nearest"
        (heat,) = beside.get_images()
        np.testing.assert_array_equal(heat.get_array(), maps[n])
        assert list(heat.get_extent()) == list(image.get_extent())
        assert heat.get_clim() == (0, 1)
        assert stated(beside.get_title()) == pytest.approx(100 * probabilities[n].max(), abs=0.05)
    assert drawn[0].get_title() != drawn[1].get_title()


def test_mistakes_without_maps_are_images_alone(images, rows):
    run = made_run("ca_cnn", 0, labels(), answers(1))
    drawn = panels(galleries.draw_mistakes(run, images, rows, CLASSES, None))
    assert len(drawn) == 12
    assert all(len(axes.get_images()) == 1 for axes in drawn)
    assert all("true: " in axes.get_title() for axes in drawn)


def test_network_without_mistakes_has_no_gallery(images, rows, maps):
    perfect = 9 * np.eye(len(CLASSES), dtype=np.float32)[labels()]
    run = made_run("cnn", 0, labels(), perfect)
    assert galleries.draw_mistakes(run, images, rows, CLASSES, maps) is None
    assert galleries.draw_disagreements(run, run, images, rows, CLASSES, maps, maps) is None


def test_disagreements_are_those_where_the_probability_of_the_truth_differs_most():
    candidate = made_run("ca_cnn", 0, labels(), answers(1))
    baseline = made_run("cnn", 0, labels(), answers(2))
    gained, lost = galleries.clearest_disagreements(candidate, baseline)
    p, q = (softmax(run.logits.astype(np.float64), axis=1) for run in (candidate, baseline))
    every = range(IMAGES)
    rise = [p[n, n % len(CLASSES)] - q[n, n % len(CLASSES)] for n in every]
    right = [(p[n].argmax() == n % len(CLASSES), q[n].argmax() == n % len(CLASSES)) for n in every]
    won = sorted((n for n in every if right[n] == (True, False)), key=lambda n: -rise[n])
    given_up = sorted((n for n in every if right[n] == (False, True)), key=lambda n: rise[n])
    assert len(won) > 6
    assert len(given_up) > 6
    assert list(gained) == won[:6]
    assert list(lost) == given_up[:6]


def test_disagreements_show_both_networks_maps_gained_left_and_lost_right(images, rows, maps):
    candidate = made_run("ca_cnn", 0, labels(), answers(1))
    baseline = made_run("cnn", 0, labels(), answers(2))
    flipped = maps[:, ::-1]
    figure = galleries.draw_disagreements(candidate, baseline, images, rows, CLASSES, maps, flipped)
    drawn = panels(figure)
    assert len(drawn) == 3 * 12
    gained, lost = galleries.clearest_disagreements(candidate, baseline)
    for n, (plain, theirs, ours) in zip(
        [*gained, *lost], zip(drawn[::3], drawn[1::3], drawn[2::3], strict=True), strict=True
    ):
        np.testing.assert_array_equal(plain.get_images()[0].get_array(), images[rows[n]])
        for axes, run, heat in [(theirs, baseline, flipped), (ours, candidate, maps)]:
            assert axes.get_title().startswith(f"{run.model}:\n")
            surest = 100 * softmax(run.logits[n].astype(np.float64)).max()
            assert stated(axes.get_title()) == pytest.approx(surest, abs=0.05)
            np.testing.assert_array_equal(axes.get_images()[0].get_array(), heat[n])
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles[:2] == ["Gained: only ca_cnn is right", "Lost: only cnn is right"]
    assert figure.subfigs[0].get_facecolor() != figure.subfigs[1].get_facecolor()


def test_only_gained_images_leave_no_room_for_lost_ones(images, rows):
    truth = labels()
    logits = 5 * np.eye(len(CLASSES), dtype=np.float32)[truth]
    baseline = logits.copy()
    baseline[3] = 4 * np.eye(len(CLASSES), dtype=np.float32)[(truth[3] + 1) % len(CLASSES)]
    figure = galleries.draw_disagreements(
        made_run("ca_cnn", 0, truth, logits), made_run("cnn", 0, truth, baseline), images, rows,
        CLASSES, None, None,
    )  # fmt: skip
    assert [part.get_suptitle() for part in figure.subfigs] == ["Gained: only ca_cnn is right"]
    (panel,) = panels(figure)
    np.testing.assert_array_equal(panel.get_images()[0].get_array(), images[rows[3]])
