from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_rel
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.metrics import DeletionInsertionMetric

from pipeline import models
from pipeline.explain import faithfulness as faithfulness_module
from pipeline.explain.cam import cam_layers
from pipeline.explain.faithfulness import (
    CONTROLS,
    Curves,
    areas,
    deletion_and_insertion,
    draw_faithfulness,
    faithfulness,
    faithfulness_table,
    hottest_first,
)
from pipeline.explain.tested_heatmaps import (
    centre_heatmap,
    network_heatmaps,
    random_heatmaps,
    resized,
)
from pipeline.figures.style import HEATMAPS
from pipeline.models.layers import Classifier
from pipeline.statistics.image_means import mean_over_images

KINDS = ["grad_cam", "layer_cam", "strongest_channel", "random", "centre"]


def network(family: str = "cnn") -> Classifier:
    settings: dict[str, Any] = {"family": family}
    if family == "cnn":
        settings |= {"channels": [4, 6, 8], "hidden": 8}
    else:
        settings |= {"block_config": [2, 2, 2], "growth_rate": 4, "num_init_features": 4}
    torch.manual_seed(0)
    return models.build(settings, 3, 16, 1).eval()


class MeanIsProbability(nn.Module):
    """Gives class 0 the probability that is the mean of the image, between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.double().mean((1, 2, 3)).clamp(1e-12, 1 - 1e-12)
        return torch.stack([mean.log(), (1 - mean).log()], 1)


def measured_curves(module: nn.Module, inputs: Tensor, heat: np.ndarray, steps: int) -> Curves:
    ties = np.random.default_rng(0).random(heat.shape)
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    return deletion_and_insertion(module, inputs, targets, hottest_first(heat, ties), steps)


# the order of the pixels


def test_hot_pixels_come_first():
    heat = np.array([[[0.1, 0.9], [0.5, 0.3]]])
    assert hottest_first(heat, np.zeros_like(heat)).tolist() == [[[3, 0], [1, 2]]]


def test_equally_hot_pixels_come_in_the_order_drawn_for_them():
    heat = np.array([[[1.0, 0, 0], [0, 0, 0]]])
    ties = np.array([[[0.9, 0.5, 0.1], [0.4, 0.3, 0.2]]])
    assert hottest_first(heat, ties).tolist() == [[[0, 5, 1], [4, 3, 2]]]


def test_no_corner_is_favoured_among_the_pixels_of_a_coarse_map():
    size = (20, 20)
    coarse = np.zeros((300, 3, 3), np.float32)
    coarse[:, :2, :2] = 1 / 3  # interpolation rounds, and must not decide
    ties = np.random.default_rng(1).random((300, *size))
    places = hottest_first(resized(coarse, size), ties)
    hottest = places[:, :8, :8]  # all of one heat, so the mean place is that of 64 first pixels
    assert np.sort(places[0].ravel()).tolist() == list(range(400))
    corner, opposite = hottest[:, :4, :4].mean(), hottest[:, 4:, 4:].mean()
    # the mean of 4,800 places from 0 to some 100 has a standard error below 0.5
    assert corner == pytest.approx(opposite, abs=2)


# curves and areas


def test_curves_of_a_network_that_gives_the_mean_are_straight_lines():
    inputs = torch.zeros(1, 1, 4, 4)
    inputs[:, :, :2] = 1  # half of the image
    top = inputs[:, 0].numpy()
    good = measured_curves(MeanIsProbability(), inputs, top, steps=8)
    assert good.share.tolist() == pytest.approx(np.arange(9) / 8)
    falling = [0.5, 0.375, 0.25, 0.125, 0, 0, 0, 0, 0]
    assert good.deletion[0].tolist() == pytest.approx(falling, abs=1e-9)
    assert good.insertion[0].tolist() == pytest.approx([0.5 - p for p in falling], abs=1e-9)
    # triangles by hand: 0.5 * 0.5 / 2, and that plus 0.5 * 0.5
    assert areas(good.deletion, good.share) == pytest.approx([0.125])
    assert areas(good.insertion, good.share) == pytest.approx([0.375])
    inverted = measured_curves(MeanIsProbability(), inputs, 1 - top, steps=8)
    assert areas(inverted.deletion, inverted.share) == pytest.approx([0.375])
    assert areas(inverted.insertion, inverted.share) == pytest.approx([0.125])


def test_steps_are_as_equal_as_complete_pixels_allow():
    inputs = torch.ones(1, 1, 3, 3)
    shares = {
        steps: measured_curves(MeanIsProbability(), inputs, np.ones((1, 3, 3)), steps).share * 9
        for steps in (2, 4, 100)
    }
    assert shares[2].tolist() == pytest.approx([0, 4, 9])
    assert shares[4].tolist() == pytest.approx([0, 2, 4, 7, 9])
    assert shares[100].tolist() == pytest.approx(list(range(10)))


@pytest.mark.parametrize("family", ["cnn", "densenet"])
@pytest.mark.parametrize("steps", [4, 16])
def test_areas_are_those_of_torchcams_metric(family: str, steps: int):
    module = network(family)
    inputs = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    heat = np.random.default_rng(0).random((6, 16, 16), dtype=np.float32)
    with torch.no_grad():
        targets = module(inputs).argmax(1)

    class GivenMaps:
        model = module

        def __call__(self, class_idx: list[int], scores: Tensor) -> list[Tensor]:
            return [torch.from_numpy(heat)]

        def fuse_cams(self, cams: list[Tensor]) -> Tensor:
            return cams[0]

        def _hooks_off(self) -> torch.no_grad:
            return torch.no_grad()

    metric = DeletionInsertionMetric(GivenMaps(), partial(torch.softmax, dim=-1), steps=steps)
    metric.update(inputs, targets.tolist())
    places = hottest_first(heat, np.zeros(heat.shape))
    ours = deletion_and_insertion(module, inputs, targets, places, steps)
    assert {
        "deletion_auc": areas(ours.deletion, ours.share).mean(),
        "insertion_auc": areas(ours.insertion, ours.share).mean(),
    } == pytest.approx(metric.summary(), abs=1e-5)


# the controls


def test_the_centre_is_a_gaussian_of_a_quarter_of_the_image():
    heat = centre_heatmap((9, 9))
    assert heat[4, 4] == 1
    assert heat[4, 4 + 2] == pytest.approx(np.exp(-0.5 * (2 / (9 / 4)) ** 2))
    np.testing.assert_array_equal(heat, heat[::-1, ::-1])
    assert centre_heatmap((8, 8)).max() == 1


def test_random_maps_depend_on_their_generators_alone():
    def drawn(seeds: list[int]) -> np.ndarray:
        return random_heatmaps((4, 4), [np.random.default_rng(seed) for seed in seeds])

    assert drawn([1, 2]).shape == (2, 4, 4)
    np.testing.assert_array_equal(drawn([1, 2])[1], drawn([2])[0])
    assert not np.array_equal(*drawn([1, 2]))


def test_resizing_keeps_what_is_equal_equal():
    coarse = np.full((2, 3, 3), 1 / 3, np.float32)
    np.testing.assert_allclose(resized(coarse, (16, 16)), 1 / 3, atol=1e-6)


class PairIsProbability(nn.Module):
    """Gives class 0 the share of the pairs of neighbours of which neither is removed."""

    def forward(self, x: Tensor) -> Tensor:
        down, across = x[:, :, 1:] * x[:, :, :-1], x[:, :, :, 1:] * x[:, :, :, :-1]
        return MeanIsProbability()((down + across.mT) / 2)


def inserted(heat: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return the areas (N,) under the insertion curves of images of ones."""
    images = torch.ones(len(heat), 1, *heat.shape[1:])
    targets = torch.zeros(len(heat), dtype=torch.int64)
    places = hottest_first(heat, ties)
    curves = deletion_and_insertion(PairIsProbability(), images, targets, places, steps=64)
    return areas(curves.insertion, curves.share)


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_a_map_that_knows_nothing_fares_as_the_control_of_its_size_does(
    heat: float, monkeypatch: pytest.MonkeyPatch
):
    count, size, coarse = 400, (32, 32), (4, 4)
    maps = np.full((count, *coarse), heat, np.float32)
    given = {"grad_cam": maps, "layer_cam": maps, "strongest_channel": maps}
    monkeypatch.setattr(faithfulness_module, "network_heatmaps", lambda *arguments: given.copy())
    batches = [(torch.ones(count, 1, *size), np.arange(count))]
    found = faithfulness(PairIsProbability(), {}, batches, steps=64, seed=0)  # type: ignore[arg-type]
    area = {kind: areas(curves.insertion, curves.share) for kind, curves in found.items()}

    spots = random_heatmaps(coarse, [np.random.default_rng([9, n]) for n in range(count)])
    expected = inserted(resized(spots, size), np.zeros((count, *size)))
    for kind in ("grad_cam", "layer_cam", "strongest_channel", "random"):
        more = mean_over_images(area[kind] - expected, -1, 1)
        assert more.low < 0 < more.high
        assert more.high - more.low < 0.005
    # the control is drawn independently of the order of equally hot pixels
    assert abs(np.corrcoef(area["grad_cam"], area["random"])[0, 1]) < 0.2

    # both of a pair of single pixels are there in share p with probability p**2: an area of 1/3
    pixels = np.random.default_rng(0).random((count, *size))
    assert inserted(pixels, pixels).mean() == pytest.approx(1 / 3, abs=0.002)
    assert expected.mean() > 0.4


# all kinds together


def test_every_kind_has_curves_that_begin_and_end_alike():
    module = network()
    inputs = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    layers = cam_layers(module, inputs)
    ids = np.arange(5)
    batches = [(inputs[:3], ids[:3]), (inputs[3:], ids[3:])]
    found = faithfulness(module, layers, batches, steps=4, seed=0)
    assert list(found) == list(HEATMAPS) == KINDS
    with torch.no_grad():
        full_image = module(inputs).double().softmax(1).amax(1).numpy()
    for curves in found.values():
        assert curves.deletion.shape == curves.insertion.shape == (5, 5)
        np.testing.assert_allclose(curves.deletion[:, 0], full_image, atol=1e-6)
        np.testing.assert_allclose(curves.insertion[:, -1], full_image, atol=1e-6)
        np.testing.assert_allclose(curves.deletion[:, -1], curves.insertion[:, 0], atol=1e-6)

    part = [(inputs[2:], ids[2:])]
    again = faithfulness(module, layers, part, steps=4, seed=0)
    for kind, curves in again.items():  # an image's controls come of its id, not of its place
        np.testing.assert_allclose(curves.deletion, found[kind].deletion[2:], atol=1e-6)
    other = faithfulness(module, layers, part, steps=4, seed=1)
    assert not np.allclose(other["random"].deletion, again["random"].deletion, atol=1e-6)


def curves_through(middles: list[float]) -> Curves:
    """Return curves from 1 over these values to 0, of area (1 + m) / 4 + m / 4, and back."""
    deletion = np.array([[1, middle, 0] for middle in middles])
    return Curves(np.array([0, 0.5, 1]), deletion, deletion[:, ::-1])


def test_table_has_the_mean_area_of_each_kind_and_curve():
    table = faithfulness_table(
        {kind: curves_through([0.5, 0.1, 0.3]) for kind in ("grad_cam", "random", "centre")}
    )
    assert list(table.columns)[:6] == ["heatmap", "curve", "area", "low", "high", "images"]
    assert table["curve"].tolist() == ["deletion", "insertion"] * 3
    by_hand = [0.5, 0.3, 0.4]
    interval = ttest_1samp(by_hand, 0).confidence_interval(0.95)
    assert table.iloc[0][["area", "low"]].tolist() == pytest.approx([0.4, interval.low])
    assert table.iloc[0]["high"] == pytest.approx(interval.high)
    assert table["images"].tolist() == [3] * 6


def test_table_compares_each_kind_with_the_controls_image_by_image():
    # images differ by far more than kinds do: the intervals of the areas overlap
    middles = np.random.default_rng(0).uniform(0.1, 0.9, 20)
    small = np.random.default_rng(1).normal(0.03, 0.01, 20)
    table = faithfulness_table(
        {
            "grad_cam": curves_through(middles),
            "random": curves_through(middles + small),
            "centre": curves_through(middles[::-1]),
        }
    ).set_index(["heatmap", "curve"])
    mean_area = table["area"]
    for curve in ("deletion", "insertion"):
        row = table.loc["grad_cam", curve]
        assert row["high"] > table.loc["random", curve]["low"]
        for control, middle in (("random", middles + small), ("centre", middles[::-1])):
            paired = ttest_rel(middles / 2, middle / 2).confidence_interval(0.95)
            assert row[f"{control}_low"] == pytest.approx(paired.low)
            assert row[f"{control}_high"] == pytest.approx(paired.high)
            difference = mean_area["grad_cam", curve] - mean_area[control, curve]
            assert row[f"{control}_difference"] == pytest.approx(difference)
        assert row["random_high"] < 0
    compared = [f"{control}_{n}" for control in CONTROLS for n in ("difference", "low", "high")]
    assert list(table.columns)[4:] == compared
    assert table.loc[list(CONTROLS), compared].isna().all(axis=None)


def test_intervals_are_students_and_stay_where_values_can_be():
    values = np.random.default_rng(0).normal(0.5, 0.1, (30, 2))
    found = mean_over_images(values, 0, 1)
    expected = ttest_1samp(values, 0, axis=0).confidence_interval(0.95)
    np.testing.assert_allclose(found.low, expected.low)
    np.testing.assert_allclose(found.high, expected.high)
    cut = mean_over_images(np.array([0.0, 0.0, 1.0]), 0, 1)
    assert (cut.low, cut.high) == (0, 1)
    same = mean_over_images(np.full(5, 0.25), 0, 1)
    assert (same.low, same.high) == (0.25, 0.25)
    single = mean_over_images(np.array([0.25, np.nan]), 0, 1)
    assert (single.mean, single.images) == (0.25, 1)
    assert np.isnan(single.low)
    assert np.isnan(mean_over_images(np.array([np.nan]), 0, 1).mean)


def test_figure_draws_the_controls_with_lines_of_their_own():
    share = np.array([0.0, 0.5, 1.0])
    curves = {kind: Curves(share, np.full((3, 3), 0.5), np.full((3, 3), 0.6)) for kind in KINDS}
    figure = draw_faithfulness("title", curves)
    deletion, insertion = figure.axes
    assert deletion.get_title() == "deletion: lower is better"
    assert insertion.get_title() == "insertion: higher is better"
    for axes, height in ((deletion, 0.5), (insertion, 0.6)):
        assert [line.get_linestyle() for line in axes.lines] == ["-", "-", "-", "--", ":"]
        assert {float(y) for line in axes.lines for y in line.get_ydata()} == {height}


# where the truth is known

SIZE = 32
DIGIT = 14  # pixels a side
TRAINING = 1200


@pytest.fixture(scope="module")
def textured() -> SimpleNamespace:
    """Digits off the centre of textured images, where they are, and a network trained on them."""
    data = load_digits()
    generator = np.random.default_rng(0)
    count = len(data.images)
    order = generator.permutation(count)
    digits = torch.from_numpy(data.images[order] / 16).float()[:, None]
    digits = F.interpolate(digits, (DIGIT, DIGIT), mode="bilinear", align_corners=False)[:, 0]
    coarse = torch.from_numpy(generator.random((count, 1, 11, 11))).float()
    texture = F.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    texture = 0.5 * texture + 0.2 * torch.from_numpy(generator.random((count, SIZE, SIZE))).float()

    images, strokes, boxes = texture.clone(), torch.zeros_like(texture), torch.zeros_like(texture)
    for n, (down, right) in enumerate(generator.integers(0, 2, (count, 2))):
        slack = generator.integers(0, 3, 2)  # pixels from the corner
        top, left = (
            (SIZE - DIGIT - int(away)) if far else int(away)
            for far, away in zip((down, right), slack, strict=True)
        )
        place = (n, slice(top, top + DIGIT), slice(left, left + DIGIT))
        images[place] = torch.maximum(images[place], 1.4 * digits[n])
        strokes[place] = digits[n]
        boxes[place] = 1
    inputs = ((images - images.mean()) / images.std())[:, None]
    labels = torch.from_numpy(data.target[order])

    torch.manual_seed(0)
    settings = {"family": "cnn", "channels": [16, 32, 64], "hidden": 64, "dropout": 0.2}
    classifier = models.build(settings, 10, SIZE, 1)
    optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
    for _ in range(10):
        for rows in torch.randperm(TRAINING).split(64):
            optimizer.zero_grad()
            F.cross_entropy(classifier(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    classifier.eval()
    held_out = slice(TRAINING, TRAINING + 128)
    with torch.no_grad():
        predicted = classifier(inputs[held_out]).argmax(1)
    assert (predicted == labels[held_out]).float().mean() > 0.85
    return SimpleNamespace(
        network=classifier,
        inputs=inputs[held_out],
        predicted=predicted,
        strokes=strokes[held_out].numpy(),
        boxes=boxes[held_out].numpy(),
    )


def share_within(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the share of each map's mass (N, H, W) that lies within the box."""
    return (heat * boxes).sum((1, 2)) / heat.sum((1, 2))


def test_class_activation_maps_lie_on_the_digit_more_than_the_middle_does(
    textured: SimpleNamespace,
):
    layers = cam_layers(textured.network, textured.inputs)
    heat = network_heatmaps(textured.network, layers, textured.inputs, textured.predicted)
    centre = np.broadcast_to(centre_heatmap((SIZE, SIZE)), textured.boxes.shape)
    control = share_within(centre, textured.boxes)
    for kind in ("grad_cam", "layer_cam"):
        found = share_within(resized(heat[kind], (SIZE, SIZE)), textured.boxes)
        more = mean_over_images(found - control, -1, 1)
        assert more.low > 0.2


def test_deletion_and_insertion_order_a_good_a_random_and_an_inverted_map(
    textured: SimpleNamespace,
):
    generators = [np.random.default_rng(n) for n in range(len(textured.inputs))]
    heatmaps = {
        "good": textured.strokes,
        "random": resized(random_heatmaps((8, 8), generators), (SIZE, SIZE)),
        "inverted": 1 - textured.strokes,
    }
    found = {}
    for name, heat in heatmaps.items():
        ties = np.random.default_rng(0).random(heat.shape)
        places = hottest_first(heat, ties)
        curves = deletion_and_insertion(
            textured.network, textured.inputs, textured.predicted, places, steps=16
        )
        found[name] = {
            "deletion": areas(curves.deletion, curves.share),
            "insertion": areas(curves.insertion, curves.share),
        }
    for better, worse in (("good", "random"), ("random", "inverted")):
        less = mean_over_images(found[worse]["deletion"] - found[better]["deletion"], -1, 1)
        more = mean_over_images(found[better]["insertion"] - found[worse]["insertion"], -1, 1)
        assert less.low > 0.05
        assert more.low > 0.05
