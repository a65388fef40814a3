from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.methods import GradCAM, LayerCAM

from pipeline.explain.cam import (
    Kind,
    cam_layers,
    class_activation_maps,
    draw_cams,
    predicted_class_maps,
    predicted_classes,
)
from pipeline.models import registry
from pipeline.models.layers import Classifier

KINDS: tuple[Kind, ...] = ("grad_cam", "layer_cam")


def cnn(size: int = 16, in_channels: int = 1, **settings: Any) -> Classifier:
    torch.manual_seed(0)
    settings = {"family": "cnn", "channels": [4, 6, 8], "hidden": 8, "reduction": 2} | settings
    return registry.build(settings, 3, size, in_channels).eval()


def densenet(size: int = 16, in_channels: int = 1, **settings: Any) -> Classifier:
    torch.manual_seed(0)
    settings = {"block_config": [2, 2, 2], "growth_rate": 4, "num_init_features": 4} | settings
    built = registry.build({"family": "densenet", "reduction": 2} | settings, 3, size, in_channels)
    return unsettled(built).eval()


def library(name: str, size: int, **settings: Any) -> Classifier:
    torch.manual_seed(0)
    settings = {"family": "torchvision", "name": name, "small_inputs": False} | settings
    return unsettled(registry.build(settings, 3, size, 3)).eval()


def unsettled(network: Classifier) -> Classifier:
    """Give norms statistics, scales and shifts that are not those they begin with."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return network


def images(count: int = 3, channels: int = 1, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(count, channels, size, size, generator=generator)
    return drawn.contiguous(memory_format=torch.channels_last)


def target_maps(network: Classifier, kind: Kind, inputs: Tensor, targets: Tensor) -> np.ndarray:
    layer = network.activation_layers()[cam_layers(network, inputs)[kind]]
    return class_activation_maps(network, kind, layer, inputs, targets)


def over_maximum(maps: Tensor) -> np.ndarray:
    highest = maps.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, maps / highest, 0.0).numpy()


# the maps


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"efficient": True},
        {"attention": "channel"},
        {"attention": "self_attention", "heads": 2},
        {"attention": "self_attention", "heads": 2, "efficient": True},
        {"activation": "elu", "normalisation": "layer"},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_grad_cam_under_an_average_and_a_linear_head_is_the_class_activation_map(
    channels: int, settings: dict[str, Any]
):
    # Grad-CAM's paper, section 3: for such a head it is Zhou et al.'s CAM, sum_k w_ck A_k
    network = densenet(16, channels, **settings)
    inputs, targets = images(5, channels), torch.tensor([0, 2, 1, 2, 0])
    recorded: list[Tensor] = []
    handle = network.activation.register_forward_hook(lambda *call: recorded.append(call[2]))
    with torch.no_grad():
        network(inputs)
        weights = network.classifier.weight[targets]  # (B, C)
        expected = F.relu(torch.einsum("bc,bchw->bhw", weights, recorded[0]))
    handle.remove()
    found = target_maps(network, "grad_cam", inputs, targets)
    assert found.shape == (5, 4, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, over_maximum(expected), atol=1e-5)


@pytest.mark.parametrize(
    "attention",
    ["none", "channel", "spatial", "cbam", "eca", "coordinate", "simam", "self_attention"],
)
def test_maps_are_what_autograd_gives_for_the_papers_equations(attention: str):
    network = cnn(attention=attention, heads=2)
    inputs, targets = images(), torch.tensor([2, 0, 1])
    for kind, name in cam_layers(network, inputs).items():
        recorded: list[Tensor] = []
        layer = network.get_submodule(name)
        handle = layer.register_forward_hook(lambda *call: recorded.append(call[2]))  # noqa: B023
        logits = network(inputs)
        handle.remove()
        (gradient,) = torch.autograd.grad(logits[range(3), targets].sum(), recorded)
        if kind == "grad_cam":
            weights = gradient.mean((2, 3), keepdim=True)
        else:
            weights = gradient.clamp_min(0)
        expected = (weights * recorded[0].detach()).sum(1).clamp_min(0)
        found = class_activation_maps(network, kind, layer, inputs, targets)
        np.testing.assert_allclose(found, over_maximum(expected), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "googlenet"])
def test_maps_of_a_librarys_network_are_torchcams(name: str, kind: Kind):
    network = library(name, 64)
    inputs, targets = images(2, 3, 64), [1, 2]
    layer = cam_layers(network, inputs)[kind]
    method = {"grad_cam": GradCAM, "layer_cam": LayerCAM}[kind]
    with method(network, f"network.{layer}") as theirs:
        expected = theirs(targets, network(inputs), normalized=False)[0]
    found = target_maps(network, kind, inputs, torch.tensor(targets))
    np.testing.assert_allclose(found, over_maximum(expected), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_has_the_same_map_alone_and_in_a_batch(kind: Kind):
    network, inputs = densenet(attention="channel"), images(4)
    targets = torch.tensor([0, 1, 2, 1])
    together = target_maps(network, kind, inputs, targets)
    alone = [target_maps(network, kind, inputs[n : n + 1], targets[n : n + 1])[0] for n in range(4)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_zero_where_nothing_speaks_for_the_class(kind: Kind):
    network = densenet()
    with torch.no_grad():
        network.classifier.weight[1] = -1  # after a rectifier every map then speaks against it
    layer = network.activation
    found = class_activation_maps(network, kind, layer, images(2), torch.tensor([1, 1]))
    np.testing.assert_array_equal(found, np.zeros((2, 4, 4)))


class InPlace(nn.Module):
    """Rectifies its layer's maps in place, as torchvision's DenseNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.conv(x), inplace=True).mean((2, 3)))


def test_maps_that_are_rectified_in_place_are_taken_as_rectified():
    torch.manual_seed(0)
    network, inputs, targets = InPlace(), images(), torch.tensor([0, 1, 2])
    with torch.no_grad():
        weights = network.classifier.weight[targets]
        rectified = network.conv(inputs).clamp_min(0)
        expected = torch.einsum("bc,bchw->bhw", weights, rectified).clamp_min(0)
    found = class_activation_maps(network, "grad_cam", network.conv, inputs, targets)
    np.testing.assert_allclose(found, over_maximum(expected), atol=1e-5)


# what is left behind


def hooks(network: nn.Module) -> list[Any]:
    return [
        hook
        for module in network.modules()
        for registered in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
        for hook in registered.values()
    ]


def state(network: nn.Module) -> dict[str, Any]:
    return {
        "modes": [module.training for module in network.modules()],
        "trainable": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [parameter.grad for parameter in network.parameters()],
        "values": [tensor.tolist() for tensor in network.state_dict().values()],
    }


@pytest.fixture
def mixed() -> Classifier:
    network = densenet(attention="channel", efficient=True, drop_rate=0.5)
    network.train()
    network.get_submodule("block2").eval()
    network.stem.requires_grad_(False)
    network.classifier.weight.grad = torch.ones_like(network.classifier.weight)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_left_as_it_was_found(mixed: Classifier, kind: Kind):
    before = state(mixed)
    layers = cam_layers(mixed, images())
    layer = mixed.activation_layers()[layers[kind]]
    class_activation_maps(mixed, kind, layer, images(), torch.tensor([0, 1, 2]))
    assert state(mixed) == before
    assert hooks(mixed) == []
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_left_as_it_was_found_after_an_error(mixed: Classifier, kind: Kind):
    before = state(mixed)
    with pytest.raises((IndexError, RuntimeError)):
        class_activation_maps(mixed, kind, mixed.activation, images(1), torch.tensor([7]))
    assert state(mixed) == before
    assert hooks(mixed) == []


def test_no_graph_is_left_in_memory():
    def in_graphs() -> set[int]:
        gc.collect()
        return {id(thing) for thing in gc.get_objects() if type(thing) is Tensor and thing.grad_fn}

    network, inputs = cnn(attention="self_attention", heads=2), images()
    before = in_graphs()
    for kind in KINDS:
        target_maps(network, kind, inputs, torch.tensor([0, 1, 2]))
    assert in_graphs() <= before


def test_maps_are_the_same_without_gradients_around_them():
    network, inputs, targets = cnn(), images(), torch.tensor([0, 1, 2])
    expected = target_maps(network, "layer_cam", inputs, targets)
    with torch.no_grad():
        np.testing.assert_array_equal(target_maps(network, "layer_cam", inputs, targets), expected)


# the layers


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (cnn(), 16, ("block3.activation", "block2.activation")),
        (cnn(attention="cbam"), 16, ("block3.attention", "block2.attention")),
        (cnn(attention="simam"), 16, ("block3.attention", "block2.attention")),
        (cnn(attention="eca", attention_at=[3]), 16, ("block3.attention", "block2.activation")),
        (cnn(pooling="strided_conv"), 16, ("block3.pool", "block2.pool")),
        # 16, 8, 4, 2 and 1 pixel: the last has no extent
        (cnn(channels=[2] * 4, pooling="strided_conv"), 16, ("block3.pool", "block2.pool")),
        # all of one size
        (cnn(pooling="dilated_conv"), 16, ("block3.pool", "block3.pool")),
        (cnn(channels=[4]), 16, ("block1.activation", "block1.activation")),
        (densenet(), 16, ("activation", "transition2.activation")),
        (densenet(block_config=[2]), 16, ("activation", "activation")),
    ],
    ids=range(10),
)
def test_maps_are_taken_after_the_deepest_activation_and_one_of_twice_its_size(
    network: Classifier, size: int, expected: tuple[str, str]
):
    layers = cam_layers(network, images(1, 1, size))
    assert (layers["grad_cam"], layers["layer_cam"]) == expected


def test_a_librarys_maps_are_taken_of_its_stages():
    # ResNet's stride is 32: at 64 pixels layer4 gives 2 x 2, at 32 a single position
    assert cam_layers(library("resnet18", 64), images(1, 3, 64)) == {
        "grad_cam": "layer4",
        "layer_cam": "layer3",
    }
    assert cam_layers(library("resnet18", 32), images(1, 3, 32)) == {
        "grad_cam": "layer3",
        "layer_cam": "layer2",
    }


# all test images


class Magnified(nn.Module):
    """Gives maps of the image's size under an average and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ReLU()
        self.classifier = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.classifier.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.maps(x).mean((2, 3)))


def test_large_maps_of_all_images_are_averaged_over_areas():
    network = Magnified()
    inputs = images(5, 2, 64)
    targets = network(inputs).argmax(1)
    maps = predicted_class_maps(network, network.maps, [(inputs[:3], None), (inputs[3:], None)])
    assert maps.dtype == np.float16
    # channel c is the map of class c; 2 x 2 pixels become one
    own = inputs[range(5), targets].clamp_min(0).numpy()
    blocks = own.reshape(5, 32, 2, 32, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(maps, blocks / blocks.max(axis=(1, 2), keepdims=True), atol=1e-3)
    assert maps.max(axis=(1, 2)).tolist() == [1.0] * 5


def test_maps_of_all_images_are_of_the_predicted_classes_in_their_order():
    network, inputs = cnn(), images(7)
    layer = network.activation_layers()["block3.activation"]
    predicted = predicted_classes(network, inputs)
    with torch.no_grad():
        assert predicted.tolist() == network(inputs).argmax(1).tolist()
    expected = class_activation_maps(network, "grad_cam", layer, inputs, predicted)
    batches = [(inputs[:4], None), (inputs[4:], None)]
    maps = predicted_class_maps(network, layer, batches)
    np.testing.assert_allclose(maps, expected, atol=1e-3)


# the figure


def test_figure_shows_every_kind_for_every_image_and_says_where_it_was_taken():
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    maps: dict[Kind, np.ndarray] = {"grad_cam": np.ones((2, 2, 2)), "layer_cam": np.ones((2, 4, 4))}
    layers: dict[Kind, str] = {"grad_cam": "block3", "layer_cam": "block2"}
    figure = draw_cams("title", pixels, ["$1", "2"], ["2", "2"], maps, layers)
    *panels, _ = figure.axes
    assert [axes.get_title() for axes in panels[:3]] == [
        "true: \\$1\npredicted: 2",
        "Grad-CAM, 2 x 2\nblock3",
        "LayerCAM, 4 x 4\nblock2",
    ]
    drawn = [axes.images[0] for axes in panels if "CAM" in axes.get_title()]
    assert {image.get_alpha() for image in drawn} == {None}  # colours are those of the scale
    assert [image.get_array().shape for image in drawn] == [(2, 2), (4, 4)] * 2
    assert {image.get_clim() for image in drawn} == {(0.0, 1.0)}
    assert all(tuple(image.get_extent()) == (-0.5, 7.5, 7.5, -0.5) for image in drawn)
