from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import ttest_1samp, ttest_rel
from sklearn.datasets import load_digits
from statsmodels.stats.multitest import multipletests
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.metrics import DeletionInsertionMetric

from pipeline.explain import faithfulness as faithfulness_module
from pipeline.explain.cam import cam_layers
from pipeline.explain.faithfulness import (
    BLUR,
    Curves,
    areas,
    areas_table,
    blurred,
    deletion_and_insertion,
    differences_table,
    draw_curves,
    draw_differences,
    empty_images_table,
    faithfulness,
    hottest_first,
)
from pipeline.explain.tested_heatmaps import (
    centre_heatmap,
    network_heatmaps,
    random_heatmaps,
    resized,
)
from pipeline.figures.style import HEATMAPS
from pipeline.models import registry
from pipeline.models.layers import Classifier
from pipeline.statistics.image_means import mean_over_images
from pipeline.storage.records import COMPARISONS

KINDS = ["grad_cam", "layer_cam", "strongest_channel", "random", "centre"]


def network(family: str = "cnn") -> Classifier:
    settings: dict[str, Any] = {"family": family}
    if family == "cnn":
        settings |= {"channels": [4, 6, 8], "hidden": 8}
    else:
        settings |= {"block_config": [2, 2, 2], "growth_rate": 4, "num_init_features": 4}
    torch.manual_seed(0)
    return registry.build(settings, 3, 16, 1).eval()


class MeanIsProbability(nn.Module):
    """Gives class 0 the probability that is the mean of the image, between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.double().mean((1, 2, 3)).clamp(1e-12, 1 - 1e-12)
        return torch.stack([mean.log(), (1 - mean).log()], 1)


def measured_curves(
    module: nn.Module, inputs: Tensor, heat: np.ndarray, steps: int, fill: str = "mean"
) -> Curves:
    ties = np.random.default_rng(0).random(heat.shape)
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    places = hottest_first(heat, ties)
    return deletion_and_insertion(module, inputs, targets, places, steps)[fill]


def scipys_blur(images: np.ndarray) -> np.ndarray:
    """Return images (B, C, H, W) under SciPy's Gaussian, which counts no pixel beyond the edge."""
    std = (0, 0, BLUR * images.shape[2], BLUR * images.shape[3])

    def filtered(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, std, mode="constant", truncate=20)

    return filtered(images) / filtered(np.ones_like(images))


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


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 3, 12, 20), (1, 1, 1, 1)])
def test_blur_is_scipys_gaussian_of_the_pixels_that_there_are(shape: tuple[int, ...]):
    images = np.random.default_rng(0).normal(size=shape)
    found = blurred(torch.from_numpy(images))
    np.testing.assert_allclose(found.numpy(), scipys_blur(images), atol=1e-9)


def test_what_is_removed_is_replaced_by_the_blurred_image():
    inputs = torch.zeros(1, 1, 4, 4)
    inputs[:, :, :2] = 1
    found = measured_curves(MeanIsProbability(), inputs, inputs[:, 0].numpy(), 2, "blur")
    image, blur = inputs[0, 0].numpy(), scipys_blur(inputs.numpy())[0, 0]
    upper_removed = np.concatenate([blur[:2], image[2:]]).mean()
    upper_put_in = np.concatenate([image[:2], blur[2:]]).mean()
    assert found.deletion[0] == pytest.approx([0.5, upper_removed, blur.mean()], abs=1e-6)
    assert found.insertion[0] == pytest.approx([blur.mean(), upper_put_in, 0.5], abs=1e-6)


@pytest.mark.parametrize(("fill", "baseline"), [("mean", np.zeros_like), ("blur", scipys_blur)])
@pytest.mark.parametrize("family", ["cnn", "densenet"])
@pytest.mark.parametrize("steps", [4, 16])
def test_areas_are_those_of_torchcams_metric(
    family: str, steps: int, fill: str, baseline: Callable[[np.ndarray], np.ndarray]
):
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

    metric = DeletionInsertionMetric(
        GivenMaps(),
        partial(torch.softmax, dim=-1),
        steps=steps,
        baseline=lambda images: torch.from_numpy(baseline(images.numpy())),
    )
    metric.update(inputs, targets.tolist())
    places = hottest_first(heat, np.zeros(heat.shape))
    ours = deletion_and_insertion(module, inputs, targets, places, steps)[fill]
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
    curves = deletion_and_insertion(PairIsProbability(), images, targets, places, steps=64)["mean"]
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
    found = faithfulness(PairIsProbability(), {}, batches, steps=64, seed=0)["mean"]  # type: ignore[arg-type]
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
    measured = faithfulness(module, layers, batches, steps=4, seed=0)
    with torch.no_grad():
        full_image = module(inputs).double().softmax(1).amax(1).numpy()
    for found in measured.values():
        assert list(found) == list(HEATMAPS) == KINDS
        empty_image = found["random"].deletion[:, -1]
        for curves in found.values():
            assert curves.deletion.shape == curves.insertion.shape == (5, 5)
            np.testing.assert_allclose(curves.deletion[:, 0], full_image, atol=1e-6)
            np.testing.assert_allclose(curves.insertion[:, -1], full_image, atol=1e-6)
            np.testing.assert_allclose(curves.deletion[:, -1], empty_image, atol=1e-6)
            np.testing.assert_allclose(curves.insertion[:, 0], empty_image, atol=1e-6)

    found = measured["mean"]
    part = [(inputs[2:], ids[2:])]
    again = faithfulness(module, layers, part, steps=4, seed=0)["mean"]
    for kind, curves in again.items():  # an image's controls come of its id, not of its place
        np.testing.assert_allclose(curves.deletion, found[kind].deletion[2:], atol=1e-6)
    other = faithfulness(module, layers, part, steps=4, seed=1)["mean"]
    assert not np.allclose(other["random"].deletion, again["random"].deletion, atol=1e-6)


def curves_through(middles: list[float] | np.ndarray, empty: float = 0) -> Curves:
    """Return curves from 1 over these values to `empty`, and back."""
    deletion = np.array([[1, middle, empty] for middle in middles])
    return Curves(np.array([0, 0.5, 1]), deletion, deletion[:, ::-1])


def areas_through(middles: list[float] | np.ndarray, empty: float = 0) -> np.ndarray:
    """Return the areas under both curves: two trapezia, each half as wide as high."""
    return (1 + 2 * np.asarray(middles) + empty) / 4


def test_areas_are_means_over_images_by_fill_curve_and_heatmap():
    middles = [0.5, 0.1, 0.3]
    curves = {"mean": curves_through(middles), "blur": curves_through(middles, empty=0.4)}
    table = areas_table({fill: dict.fromkeys(KINDS, of) for fill, of in curves.items()})
    assert list(table.columns) == ["fill", "curve", "heatmap", "area", "low", "high", "images"]
    assert table["heatmap"].tolist() == 4 * KINDS
    assert table["images"].tolist() == 20 * [3]
    for fill, empty in (("mean", 0), ("blur", 0.4)):
        by_hand = areas_through(middles, empty)
        interval = ttest_1samp(by_hand, 0).confidence_interval(0.95)
        for row in table[table["fill"] == fill].itertuples():
            expected = [by_hand.mean(), interval.low, interval.high]
            assert [row.area, row.low, row.high] == pytest.approx(expected)


def test_empty_images_are_what_each_fill_leaves():
    curves = {"mean": curves_through([0.5, 0.1], 0.1), "blur": curves_through([0.5, 0.1], 0.4)}
    table = empty_images_table({fill: dict.fromkeys(KINDS, of) for fill, of in curves.items()})
    assert table["image"].tolist() == ["complete", "mean", "blur"]
    assert table["probability"].tolist() == pytest.approx([1, 0.1, 0.4])
    assert (table["images"] == 2).all()


def made_curves(images: int = 20) -> dict[str, dict[str, Curves]]:
    """Return curves of images that differ by far more than the kinds of heatmap do."""
    generator = np.random.default_rng(0)
    of_images = generator.uniform(0.2, 0.8, images)
    shifts = dict(zip(KINDS, (-0.06, -0.05, 0, 0, 0.04), strict=True))
    return {
        fill: {
            kind: curves_through(of_images + shift + generator.normal(0, 0.01, images))
            for kind, shift in shifts.items()
        }
        for fill in ("mean", "blur")
    }


def test_heatmaps_of_a_network_are_compared_image_by_image_and_corrected_for_all():
    measured = made_curves()
    table = differences_table(measured)
    expected = []
    for fill, curve, heatmap, against in table.iloc[:, :4].itertuples(index=False):
        curves = measured[fill][heatmap], measured[fill][against]
        more, less = (areas_through(getattr(of, curve)[:, 1]) for of in curves)
        pair = (less, more) if curve == "deletion" else (more, less)  # deletion: less is better
        expected.append(ttest_rel(*pair))
    assert len(table) == 4 * len(COMPARISONS) == 36
    p_values = [test.pvalue for test in expected]
    assert table["p"].tolist() == pytest.approx(p_values)
    rejected, p_holm, _, _ = multipletests(p_values, 0.05, "holm")
    assert table["p_holm"].tolist() == pytest.approx(list(p_holm))
    assert 0 < sum(rejected) < len(table)
    assert ((table["low"] > 0) | (table["high"] < 0)).tolist() == list(rejected)
    # Holm's first step is at 5 % of the number of comparisons, the last ones at theirs
    surest = table["p"].idxmin()
    interval = expected[surest].confidence_interval(1 - 0.05 / 36)
    assert table.loc[surest, ["low", "high"]].tolist() == pytest.approx([*interval])
    others = 1 - 0.05 / (36 - sum(rejected))
    for row in table.index[~rejected]:
        interval = expected[row].confidence_interval(others)
        assert table.loc[row, ["low", "high"]].tolist() == pytest.approx([*interval])


def test_the_better_heatmap_has_the_advantage_by_both_curves():
    table = differences_table(made_curves()).set_index(["fill", "curve", "heatmap", "against"])
    deletion = table.loc["blur", "deletion", "grad_cam", "centre"]
    insertion = table.loc["blur", "insertion", "grad_cam", "centre"]
    # less is left by deletion, and less comes back by insertion
    assert deletion["low"] > 0
    assert insertion["high"] < 0
    assert deletion["advantage"] == pytest.approx(-insertion["advantage"])
    areas_by_heatmap = areas_table(made_curves()).set_index(["fill", "curve", "heatmap"])["area"]
    lost = areas_by_heatmap["blur", "deletion", "centre"]
    kept = areas_by_heatmap["blur", "deletion", "grad_cam"]
    assert deletion["advantage"] == pytest.approx(lost - kept)


def test_a_heatmap_that_orders_the_pixels_as_another_does_has_no_advantage():
    same = dict.fromkeys(KINDS, curves_through([0.5, 0.1, 0.3]))
    table = differences_table({"mean": same, "blur": same})
    assert (table[["advantage", "low", "high"]] == 0).all(axis=None)
    assert (table[["p", "p_holm"]] == 1).all(axis=None)


def test_figure_of_curves_shows_the_controls_in_lines_of_their_own_and_the_empty_image():
    share = np.array([0.0, 0.5, 1.0])
    deletion = np.tile([0.9, 0.5, 0.25], (3, 1))
    curves = dict.fromkeys(KINDS, Curves(share, deletion, deletion[:, ::-1]))
    figure = draw_curves("title", {"mean": curves, "blur": curves})
    titles = [axes.get_title().split(",")[0] for axes in figure.axes]
    assert titles == ["deletion", "insertion"] * 2
    for axes in figure.axes:
        assert [line.get_linestyle() for line in axes.lines] == ["-", "-", "-", "--", ":", "-"]
        assert axes.lines[-1].get_ydata() == [0.25, 0.25]
        assert "empty image keeps 0.25, 0.25 to 0.25" in axes.get_title()


def test_figure_draws_every_difference_with_its_interval():
    measured = made_curves()
    figure = draw_differences("title", measured)
    table = differences_table(measured)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[0] == "Grad-CAM against random"
    assert names[-1] == "LayerCAM against strongest channel"
    for axes, curve in zip(figure.axes, ("deletion", "insertion"), strict=True):
        rows = table[table["curve"] == curve]
        drawn = [line.get_xdata() for line in axes.lines if line.get_linestyle() == "None"]
        np.testing.assert_allclose(np.concatenate(drawn), rows["advantage"])
        ends = [path.get_segments() for path in axes.collections]
        found = np.concatenate([np.array(segments)[:, :, 0] for segments in ends])
        np.testing.assert_allclose(found, rows[["low", "high"]])
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "mean, 95% interval corrected for 36 comparisons"
    assert [text.get_text() for text in legend.get_texts()] == [
        "replaced by the mean colour (empty image keeps 0.00, 0.00 to 0.00)",
        "replaced by the blurred image (empty image keeps 0.00, 0.00 to 0.00)",
    ]


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
    classifier = registry.build(settings, 10, SIZE, 1)
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


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_deletion_and_insertion_order_a_good_a_random_and_an_inverted_map(
    textured: SimpleNamespace, fill: str
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
        )[fill]
        found[name] = {
            "deletion": areas(curves.deletion, curves.share),
            "insertion": areas(curves.insertion, curves.share),
        }
    for better, worse in (("good", "random"), ("random", "inverted")):
        less = mean_over_images(found[worse]["deletion"] - found[better]["deletion"], -1, 1)
        more = mean_over_images(found[better]["insertion"] - found[worse]["insertion"], -1, 1)
        assert less.low > 0.05
        assert more.low > 0.05
