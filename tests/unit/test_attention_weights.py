"""What attention does: its weights by class, whether they vary, and the libraries' gates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from scipy import stats
from timm.layers import create_attn
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.explain.attention_figures import draw_attention, draw_attention_variation
from pipeline.explain.attention_weights import (
    CONSTANT_BELOW,
    ModuleWeights,
    attention_table,
    expected_share,
    variation,
    variation_table,
    weights_by_class,
)
from pipeline.models import registry
from pipeline.models.attention import Attention, ChannelAttention
from pipeline.models.inspection import record_weights
from pipeline.models.layers import Classifier
from pipeline.models.library import _wrap_gates
from pipeline.stages.explain import explain_attention

CLASSES = ["cat", "$dog", "a|b"]
LABELS = np.array([0, 0, 1, 0, 1, 1, 2, 0, 2, 2])


def network(attention: str = "channel", family: str = "cnn", **settings: Any) -> Classifier:
    settings |= {"family": family, "attention": attention, "reduction": 1, "heads": 2}
    if family == "cnn":
        settings = {"channels": [4, 6, 8], "hidden": 8} | settings
    else:
        settings = {"block_config": [2, 2], "growth_rate": 4, "num_init_features": 4} | settings
    torch.manual_seed(0)
    return registry.build(settings, 3, 8, 1).eval()


def library(family: str, name: str) -> Classifier:
    torch.manual_seed(0)
    settings = {"family": family, "name": name, "small_inputs": True}
    return registry.build(settings, 3, 32, 3).eval()


class GivenWeights(Attention):
    """Attention whose weights are the image's first row of pixels."""

    kind = "channel"

    def weights(self, x: Tensor) -> Tensor:
        return x[:, 0, 0]

    def forward(self, x: Tensor) -> Tensor:
        return x


def measured(weights: np.ndarray, labels: np.ndarray, batch_size: int = 4) -> ModuleWeights:
    """Measure an attention that gives `weights` (N, W) to N images."""
    module = GivenWeights()
    pixels = torch.from_numpy(weights).float()[:, None, None]  # (N, 1, 1, W)
    batches = batched(pixels, labels, batch_size)
    return weights_by_class(module, {"given": module}, batches, int(labels.max()) + 1)["given"]


class GivenMaps(GivenWeights):
    """Attention whose weights are the image."""

    kind = "spatial"

    def weights(self, x: Tensor) -> Tensor:
        return x


def batched(
    inputs: Tensor, labels: np.ndarray, batch_size: int = 4
) -> Iterator[tuple[Tensor, np.ndarray]]:
    for start in range(0, len(inputs), batch_size):
        part = slice(start, start + batch_size)
        yield inputs[part], labels[part]


# weights by class


def test_weights_by_class_are_means_over_the_images_of_the_class() -> None:
    model = network()
    modules = model.attention_layers()
    inputs, labels = torch.randn(10, 1, 8, 8), np.where(LABELS == 2, 1, LABELS)
    found = weights_by_class(model, modules, batched(inputs, labels), num_classes=3)

    with torch.no_grad():
        block = model.get_submodule("block1")
        before = block.activation(block.norm(block.conv(inputs)))
        every = block.attention.weights(before).double().numpy()
    first = found["attention1"]
    assert (first.kind, first.shape, first.images.tolist()) == ("channel", (4,), [4, 6, 0])
    assert (every.std(axis=0) > 1e-4).all()
    for k in (0, 1):
        np.testing.assert_allclose(first.mean[k], every[labels == k].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(first.sd[k], every[labels == k].std(axis=0), rtol=1e-3)
    assert np.isnan(first.mean[2]).all()  # no image of this class
    assert not any(module._forward_hooks for module in modules.values())


def test_hooks_come_off_after_an_error() -> None:
    module = network().attention_layers()["attention1"]
    with pytest.raises(RuntimeError, match="stop"), record_weights({"attention1": module}):
        raise RuntimeError("stop")
    assert not module._forward_hooks


@pytest.mark.parametrize("attention", ["spatial", "coordinate", "simam", "self_attention"])
def test_maps_of_weights_keep_their_shape_up_to_16_pixels_and_are_averaged_down_beyond(
    attention: str,
) -> None:
    torch.manual_seed(0)
    settings = {"family": "cnn", "channels": [4, 4], "attention": attention, "heads": 2}
    model = registry.build(settings, 3, 32, 1).eval()
    inputs = torch.randn(2, 1, 32, 32)
    layers = model.attention_layers()
    with torch.no_grad(), record_weights(layers) as recorded:
        model(inputs)
    found = weights_by_class(model, layers, [(inputs, np.array([0, 1]))], 2)
    first, second = found["attention1"], found["attention2"]
    assert first.shape == second.shape == (16, 16)
    of_channels = {name: weights.mean(1) for name, weights in recorded.items()}
    blocks = of_channels["attention1"].reshape(2, 16, 2, 16, 2).mean((2, 4))  # of 2 x 2 pixels
    np.testing.assert_allclose(first.mean, blocks.flatten(1).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(second.mean, of_channels["attention2"].flatten(1).numpy())


# variation


def test_attention_that_gives_every_image_the_same_is_a_scale_factor() -> None:
    model = network()
    inputs = torch.randn(10, 1, 8, 8)
    with torch.no_grad():
        for module in model.attention_layers().values():
            assert isinstance(module, ChannelAttention)
            module.excite.weight.zero_()
    found = weights_by_class(model, model.attention_layers(), batched(inputs, LABELS), 3)
    for measured_weights in found.values():
        varying = variation(measured_weights)
        assert varying.constant
        assert varying.means.tolist() == [0.5] * len(varying.means)  # sigmoid(0)
        assert (varying.sd_between, varying.sd_over_images) == (0, 0)
        assert np.isnan(varying.share_by_class)


def test_scale_factors_of_different_size_differ_between_channels_alone() -> None:
    factors = np.array([0.1, 0.3, 0.7, 0.9])
    varying = variation(measured(np.tile(factors, (10, 1)), LABELS))
    assert varying.constant
    assert varying.mean == pytest.approx(0.5)
    assert varying.sd_between == pytest.approx(np.sqrt(0.1))  # deviations 0.4, 0.2, 0.2, 0.4
    assert varying.sd_over_images == 0
    assert np.isnan(varying.share_by_class)  # rounding of float32 is not taken for variance


@pytest.mark.parametrize(("share", "constant"), [(0.5, True), (0.99, True), (1.01, False)])
def test_attention_is_constant_up_to_one_percent_of_its_mean_weight(
    share: float, constant: bool
) -> None:
    # two values at equal distance from the mean have that distance as sd
    weights = 0.4 * (1 + share * CONSTANT_BELOW * np.tile([[1, -1], [-1, 1]], (50, 1)))
    varying = variation(measured(weights, np.arange(100) % 2))
    assert varying.sd_over_images == pytest.approx(0.4 * share * CONSTANT_BELOW, rel=1e-3)
    assert varying.constant is constant


@pytest.mark.parametrize("size", [16, 56, 224])
def test_attention_to_positions_varies_by_as_much_however_large_its_maps_are(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = 0.5 * (1 + 0.085 * torch.randn(10, 1, size, size, generator=generator))
    module = GivenMaps()
    found = weights_by_class(module, {"given": module}, batched(weights, LABELS), 3)["given"]
    varying = variation(found)
    expected = weights.double().numpy().std(axis=0).mean()  # 8.5 % of 0.5, less what 10 images miss
    assert varying.sd_over_images == pytest.approx(expected, rel=1e-6)
    assert not varying.constant
    assert found.shape == (16, 16) if size > 16 else (size, size)
    averaged = F.adaptive_avg_pool2d(weights, 16).flatten(1).double().numpy()
    np.testing.assert_allclose(varying.means, averaged.mean(axis=0), rtol=1e-6)
    by_class = [averaged[k == LABELS].mean(axis=0) for k in range(3)]
    between = np.average((by_class - averaged.mean(axis=0)) ** 2, axis=0, weights=[4, 3, 3])
    share = between.sum() / averaged.var(axis=0).sum()
    assert varying.share_by_class == pytest.approx(share, rel=1e-4)


@pytest.mark.parametrize("varies_over", ["channels", "positions", "images"])
def test_what_elementwise_attention_varies_over_is_seen_before_channels_are_averaged(
    varies_over: str,
) -> None:
    axis = {"images": 0, "channels": 1, "positions": 3}[varies_over]
    halves = torch.ones(10, 4, 6, 6)
    halves.narrow(axis, 0, halves.shape[axis] // 2).fill_(3)
    module = GivenMaps()
    module.kind = "elementwise"
    found = weights_by_class(module, {"given": module}, batched(halves, LABELS), 3)["given"]
    varying = variation(found)
    assert found.shape == (6, 6)
    assert varying.mean == 2
    assert varying.sd_between == (0 if varies_over == "images" else 1)
    assert varying.sd_over_images == (1 if varies_over == "images" else 0)


def test_attention_that_gives_nothing_at_all_is_a_scale_factor() -> None:
    assert variation(measured(np.zeros((10, 3)), LABELS)).constant


def test_class_explains_all_of_what_depends_on_it_alone() -> None:
    model = network()
    images = torch.randn(3, 1, 8, 8)  # one for each class
    found = weights_by_class(model, model.attention_layers(), batched(images[LABELS], LABELS), 3)
    varying = variation(found["attention1"])
    assert varying.sd_over_images > 0
    assert varying.share_by_class == pytest.approx(1, abs=1e-6)


def test_class_explains_nothing_of_what_varies_alike_in_every_class() -> None:
    weights = np.tile([[0.2, 0.9], [0.4, 0.1], [0.9, 0.3]], (4, 1))
    assert variation(measured(weights, np.arange(12) // 3)).share_by_class == pytest.approx(0)


def test_share_of_the_class_is_eta_squared_of_scipys_analysis_of_variance() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [7, 20, 13])
    weights = generator.random((40, 5)) * [0.1, 0.3, 0.2, 0.4, 0.5] + 0.1 * labels[:, None]
    groups = [weights[labels == k] for k in range(3)]
    f = stats.f_oneway(*groups).statistic  # (5,): of each weight
    eta_squared = 2 * f / (2 * f + 40 - 3)  # K - 1 and N - K degrees of freedom

    variances = weights.var(axis=0)
    for weight in range(5):
        alone = variation(measured(weights[:, [weight]], labels))
        assert alone.share_by_class == pytest.approx(eta_squared[weight], rel=1e-5)
    together = variation(measured(weights, labels))
    expected = np.average(eta_squared, weights=variances)
    assert together.share_by_class == pytest.approx(expected, rel=1e-5)
    assert together.sd_over_images == pytest.approx(np.sqrt(variances).mean(), rel=1e-5)
    assert together.sd_between == pytest.approx(weights.mean(axis=0).std(), rel=1e-5)


def test_expected_share_is_the_mean_over_all_ways_to_label_the_images() -> None:
    weights = np.array([0.1, 0.7, 0.2, 0.4, 0.9, 0.3])[:, None]
    ways = sorted(set(itertools.permutations([0, 0, 1, 1, 2, 2])))
    shares = [variation(measured(weights, np.array(way))).share_by_class for way in ways]
    assert len(shares) == 90
    assert np.mean(shares) == pytest.approx(expected_share(np.array([2, 2, 2])), rel=1e-5)


def test_neither_the_size_of_batches_nor_an_empty_class_matters() -> None:
    weights = np.random.default_rng(0).random((10, 3))
    full = variation(measured(weights, LABELS, batch_size=10))
    renamed = variation(measured(weights, np.array([0, 2, 5])[LABELS], batch_size=3))
    np.testing.assert_allclose(renamed.means, full.means)
    assert renamed.share_by_class == pytest.approx(full.share_by_class)
    assert renamed.sd_over_images == pytest.approx(full.sd_over_images)


# the libraries' gates


def squeezed(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("family", "name", "count", "first"),
    [
        ("torchvision", "efficientnet_b0", 16, "features.1.0.block.1"),
        ("torchvision", "mobilenet_v3_small", 9, "features.1.block.1"),
        ("torchvision", "regnet_y_400mf", 16, "trunk_output.block1.block1-0.f.se"),
        ("timm", "seresnet18", 8, "layer1.0.se"),
        ("timm", "ese_vovnet19b_dw", 4, "stages.0.blocks.0.attn"),
        ("timm", "mobilenetv3_small_050", 9, "blocks.0.0.se"),
        ("timm", "eca_resnet33ts", 10, "stages.0.0.attn"),
    ],
)
def test_library_networks_give_the_weights_of_their_gates(
    family: str, name: str, count: int, first: str
) -> None:
    model = library(family, name)
    layers = model.attention_layers()
    assert len(layers) == count
    assert next(iter(layers)) == first
    scaled: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str) -> Any:
        # cloned: timm adds a block's input to the output in place
        return lambda module, inputs, output: scaled.update({name: (inputs[0], output.clone())})

    network = model.get_submodule("network")
    for layer in layers:
        network.get_submodule(layer).register_forward_hook(record(layer))
    with torch.no_grad(), record_weights(layers) as recorded:
        model(torch.randn(2, 3, 32, 32))
    assert list(recorded) == list(layers)
    for layer, weights in recorded.items():
        x, output = scaled[layer]
        assert weights.shape == x.shape[:2]
        torch.testing.assert_close(x * weights[:, :, None, None], output)


@pytest.mark.parametrize(
    ("family", "name", "gate"),
    [
        ("torchvision", "efficientnet_b0", torch.sigmoid),
        ("torchvision", "mobilenet_v3_small", lambda x: (x / 6 + 0.5).clamp(0, 1)),
        ("timm", "seresnet18", torch.sigmoid),
    ],
)
def test_library_gates_are_squeeze_and_excitation_by_hand(
    family: str, name: str, gate: Any
) -> None:
    model = library(family, name)
    layers = model.attention_layers()
    module = model.get_submodule("network").get_submodule(list(layers)[1])
    activation = F.silu if name.startswith("efficientnet") else F.relu
    x = torch.randn(2, module.fc1.in_channels, 4, 4)
    with torch.no_grad(), record_weights(layers) as recorded:
        module(x)
        weights = module.state_dict()
        hidden = F.linear(x.mean((2, 3)), weights["fc1.weight"][:, :, 0, 0], weights["fc1.bias"])
        excited = F.linear(
            activation(hidden), weights["fc2.weight"][:, :, 0, 0], weights["fc2.bias"]
        )
    (weighted,) = recorded.values()
    torch.testing.assert_close(weighted, gate(excited))


def test_timms_cbam_gives_weights_of_channels_and_positions() -> None:
    torch.manual_seed(0)
    cbam = create_attn("cbam", 16)
    assert cbam is not None
    holder = nn.Sequential(cbam).eval()
    _wrap_gates(holder)
    gates = {
        name: module for name, module in holder.named_modules() if isinstance(module, Attention)
    }
    assert [gate.kind for gate in gates.values()] == ["channel", "spatial"]
    x = torch.randn(2, 16, 6, 5)
    with torch.no_grad(), record_weights(gates) as recorded:
        output = holder(x)
    channel, spatial = recorded.values()
    assert channel.shape == (2, 16)
    torch.testing.assert_close(x * channel[:, :, None, None] * spatial, output)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v3_small", "seresnet18"])
def test_wrapped_gates_change_neither_the_names_of_weights_nor_the_output(name: str) -> None:
    torch.manual_seed(1)
    ours: nn.Module
    if name == "seresnet18":
        theirs = timm.create_model(name, num_classes=5).eval()
        family = "timm"
    else:
        theirs = torchvision.models.get_model(name, num_classes=5).eval()
        family = "torchvision"
    settings = {"family": family, "name": name, "small_inputs": False}
    ours = registry.build(settings, 5, 64, 3).get_submodule("network").eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("family", "name"), [("torchvision", "resnet18"), ("timm", "vit_tiny_patch16_224")]
)
def test_library_networks_without_weights_to_give_have_no_attention_layers(
    family: str, name: str
) -> None:
    settings = {"family": family, "name": name, "small_inputs": False}
    assert registry.build(settings, 5, 32, 3).attention_layers() == {}


# tables and figures


def test_attention_table_has_a_row_for_each_weight_and_class() -> None:
    mean = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])  # 3 classes, 2 channels
    weights = ModuleWeights("channel", (2,), np.array([1, 1, 1]), mean, mean / 10, *mean[:2])
    table = attention_table({"one": weights}, CLASSES)
    assert len(table) == 6
    row = table[(table["index"] == 1) & (table["class"] == "a|b")].iloc[0]
    assert (row["mean_weight"], row["sd_over_images"]) == (0.6, pytest.approx(0.06))


def test_variation_table_separates_scale_factors_from_attention() -> None:
    generator = np.random.default_rng(0)
    weights = {
        "dead": measured(np.full((10, 4), 0.5), LABELS),
        "alive": measured(generator.random((10, 6)), LABELS),
    }
    table = variation_table(weights).set_index("module")
    assert table["constant"].to_dict() == {"dead": True, "alive": False}
    assert table["weights"].to_dict() == {"dead": 4, "alive": 6}
    assert table["share_by_chance"].to_dict() == pytest.approx({"dead": 2 / 9, "alive": 2 / 9})
    figure = draw_attention_variation("model", weights)
    assert figure.get_suptitle().startswith("Attention in model: 1 of 2 modules are scale factors")
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["dead", "alive"]


@pytest.mark.parametrize(
    ("attention", "kinds"),
    [("channel", 1), ("spatial", 1), ("cbam", 2), ("coordinate", 1), ("self_attention", 1)],
)
def test_figure_has_one_scale_of_colours_for_each_kind(attention: str, kinds: int) -> None:
    model = network(attention)
    layers = model.attention_layers()
    weights = weights_by_class(model, layers, batched(torch.randn(10, 1, 8, 8), LABELS), 3)
    figure = draw_attention("title", weights, CLASSES)
    scales = {(image.norm.vmin, image.norm.vmax) for axes in figure.axes for image in axes.images}
    assert len(scales) == kinds
    drawn = [one for one in weights.values() if np.ptp(one.mean) > CONSTANT_BELOW * one.mean.max()]
    assert drawn
    for module in drawn:
        assert any(low <= module.mean.min() and module.mean.max() <= high for low, high in scales)


def test_module_that_weights_all_alike_is_named_and_not_drawn_beside_others() -> None:
    generator = np.random.default_rng(0)
    dead, alive = np.full((10, 4), 0.5), generator.random((10, 6))
    weights = {"dead": measured(dead, LABELS), "alive": measured(alive, LABELS)}
    figure = draw_attention("title", weights, CLASSES)
    said = "title\nnot drawn, since all its weights are the same: dead (0.50)"
    assert figure.get_suptitle() == said
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["alive: 6 channels"]
    alone = draw_attention("title", {"dead": weights["dead"]}, CLASSES)
    assert alone.get_suptitle() == "title"


def test_figure_says_that_elementwise_weights_are_means_over_the_channels() -> None:
    model = network("simam")
    batches = batched(torch.randn(10, 1, 8, 8), LABELS)
    weights = weights_by_class(model, model.attention_layers(), batches, 3)
    labels = [axes.get_ylabel() for axes in draw_attention("title", weights, CLASSES).axes]
    assert "mean attention weight\n(mean over the channels)" in labels


@pytest.mark.parametrize(
    "attention",
    ["channel", "spatial", "cbam", "eca", "coordinate", "simam", "self_attention"],
)
@pytest.mark.parametrize("family", ["cnn", "densenet"])
def test_explanation_has_the_same_bytes_each_time_and_leaves_the_network_alone(
    attention: str, family: str, tmp_path: Path
) -> None:
    model = network(attention, family)
    inputs = torch.randn(10, 1, 8, 8)
    with torch.no_grad():
        before = model(inputs)
    records, files = [], []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        batches = batched(inputs, LABELS)
        records.append(explain_attention(model, batches, CLASSES, "model", folder))
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert records[0] == records[1]
    assert files[0] == files[1]
    names = ("attention", "attention_variation")
    assert set(files[0]) == {f"{name}.{kind}" for name in names for kind in ("svg", "csv")}
    with torch.no_grad():
        assert torch.equal(model(inputs), before)

    layers = model.attention_layers()
    assert list(records[0]["modules"]) == list(layers)
    varying = pd.read_csv(tmp_path / "first" / "attention_variation.csv")
    assert varying["module"].tolist() == list(layers)
    assert varying["kind"].tolist() == [module.kind for module in layers.values()]
    assert varying["module"][varying["constant"]].tolist() == records[0]["constant"]
    assert varying["share_by_class"].dropna().between(0, 1).all()
    table = pd.read_csv(tmp_path / "first" / "attention.csv")
    assert len(table) == varying["weights"].sum() * 3
    # classes of different size, so that only weighting them by it gives the mean of all images
    counts = np.bincount(LABELS)[[CLASSES.index(name) for name in table["class"]]]
    overall = (table["mean_weight"] * counts).groupby(table["layer"]).sum()
    overall /= varying.set_index("module")["weights"] * len(LABELS)
    np.testing.assert_allclose(overall[varying["module"]], varying["mean"], rtol=1e-4)


def test_figure_shows_six_of_many_modules_but_the_tables_and_the_variation_all(
    tmp_path: Path,
) -> None:
    model = network(family="densenet", block_config=[10, 10])
    batches = batched(torch.randn(10, 1, 8, 8), LABELS)
    record = explain_attention(model, batches, CLASSES, "model", tmp_path)
    assert len(record["modules"]) == 20
    assert record["shown"][0] == "block1.layer1"
    assert record["shown"][-1] == "block2.layer10"
    assert len(record["shown"]) == 6
    assert pd.read_csv(tmp_path / "attention.csv")["layer"].nunique() == 20
    assert len(pd.read_csv(tmp_path / "attention_variation.csv")) == 20
