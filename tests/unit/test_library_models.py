"""Networks of torchvision and timm: published sizes, small images, feature layers, refusals."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.inspection import record_outputs
from pipeline.models.layers import Classifier
from pipeline.models.library import _AveragePool
from pipeline.models.registry import build
from pipeline.system.errors import InputError

SMALL = {
    "resnet18": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "densenet121": ["features.conv0", *(f"features.denseblock{n}" for n in (1, 2, 3, 4))],
    "mobilenet_v3_small": ["features.0.0", "features.1", "features.3", "features.8", "features.12"],
    "efficientnet_b0": [
        "features.0.0",
        "features.1",
        "features.2",
        "features.3",
        "features.5",
        "features.8",
    ],
    "vgg11": ["features.0", "features.3", "features.8", "features.13", "features.18"],
    "squeezenet1_1": ["features.0", "features.4", "features.7", "features.12"],
    "shufflenet_v2_x0_5": ["conv1.0", "stage2", "stage3", "conv5"],
    "convnext_tiny": ["features.0.0", "features.1", "features.3", "features.5", "features.7"],
    "googlenet": ["conv1.conv", "conv3", "inception3b", "inception4e", "inception5b"],
    "regnet_y_400mf": ["stem.0", *(f"trunk_output.block{n}" for n in (1, 2, 3, 4))],
}


def torchvision_model(
    name: str, *, size: int = 32, channels: int = 3, small: bool = True
) -> Classifier:
    settings = {"family": "torchvision", "name": name, "small_inputs": small, "baseline": None}
    return build(settings, 5, size, channels)


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [  # "num_params" on the library's pages
        ("resnet18", 224, 11_689_512),
        ("densenet121", 224, 7_978_856),
        ("mobilenet_v3_small", 224, 2_542_856),
        ("squeezenet1_1", 224, 1_235_496),
        ("shufflenet_v2_x0_5", 224, 1_366_792),
        ("efficientnet_b0", 224, 5_288_548),
        ("vit_b_16", 224, 86_567_656),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, size: int, expected: int) -> None:
    settings = {"family": "torchvision", "name": name, "small_inputs": False}
    assert parameter_count(build(settings, 1000, size)) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(SMALL))
def test_adapted_networks_train_on_small_images(name: str, channels: int) -> None:
    torch.manual_seed(0)
    model = torchvision_model(name, channels=channels).to(memory_format=torch.channels_last)
    assert model.training
    images = torch.randn(2, channels, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.shape == (2, 5)
    F.cross_entropy(logits.float(), torch.tensor([1, 4])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    stem = next(iter(model.feature_layers().values()))
    assert stem.get_parameter("weight").shape[1:] == (channels, 3, 3)


@pytest.mark.parametrize("name", list(SMALL))
def test_feature_layers_are_the_stem_and_the_last_of_each_map_size(name: str) -> None:
    torch.manual_seed(1)
    model = torchvision_model(name).eval()
    put_out: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str) -> Any:
        return lambda module, inputs, output: put_out.update({name: (output, output.clone())})

    for layer, module in model.feature_layers().items():
        module.register_forward_hook(record(layer))
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 32))
    assert list(put_out) == list(model.feature_layers()) == SMALL[name]
    sizes = [output.shape[2] for output, _ in put_out.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 32
    assert len(set(sizes[1:])) == len(sizes) - 1
    for output, at_the_time in put_out.values():
        assert output.shape[2] == output.shape[3]
        assert torch.equal(output, at_the_time)  # nothing was computed in place


@pytest.mark.parametrize(
    ("family", "name", "expected"),
    [
        ("torchvision", "alexnet", ["features.1", "features.4", "features.11"]),
        ("torchvision", "vgg11", [f"features.{n}" for n in (1, 4, 9, 14, 19)]),
        ("torchvision", "vgg11_bn", [f"features.{n}" for n in (2, 6, 13, 20, 27)]),
        (
            "torchvision",
            "densenet121",
            [
                "features.relu0",
                *(f"features.transition{n}.relu" for n in (1, 2, 3)),
                "features.norm5",  # and then a rectifier that is no module, in place
            ],
        ),
        ("timm", "vgg11", [f"features.{n}" for n in (1, 4, 9, 14, 19)]),
    ],
)
def test_activation_layers_come_after_the_rectifier(
    family: str, name: str, expected: list[str]
) -> None:
    torch.manual_seed(1)
    settings = {"family": family, "name": name, "small_inputs": False}
    model = build(settings, 5, 64).eval()
    layers = model.activation_layers()
    assert list(layers)[: len(expected)] == expected
    with torch.no_grad(), record_outputs(layers) as maps:
        model(torch.randn(2, 3, 64, 64))
    for layer in expected:
        assert maps[layer].min() == 0
        assert maps[layer].max() > 0


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "vit_b_16", "swin_t"])
def test_activation_layers_are_the_feature_layers_where_no_sequence_goes_on(name: str) -> None:
    model = torchvision_model(name, size=64, small=False)
    assert model.activation_layers() == model.feature_layers()


def test_photographs_get_the_network_of_the_library() -> None:
    torch.manual_seed(2)
    ours = torchvision_model("resnet18", size=64, small=False).eval()
    torch.manual_seed(2)
    theirs = torchvision.models.resnet18(num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_small_resnet_is_the_library_s_with_a_3x3_stem_and_no_pool() -> None:
    torch.manual_seed(3)
    ours = torchvision_model("resnet18").eval()
    theirs = torchvision.models.resnet18(num_classes=5)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()  # type: ignore[assignment]
    weights = {name.removeprefix("network."): t for name, t in ours.state_dict().items()}
    theirs.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images))
    assert weights["conv1.weight"].std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_stem_that_keeps_the_size_is_left_alone() -> None:
    small, large = (torchvision_model("vgg11", small=small) for small in (True, False))
    assert str(small) == str(large)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 7), (2, 7), (7, 7), (13, 6), (14, 7)])
def test_average_pool_is_pytorchs_adaptive_one(inputs: int, outputs: int) -> None:
    x = torch.randn(2, 3, inputs, inputs, dtype=torch.float64, requires_grad=True)
    expected = F.adaptive_avg_pool2d(x, (outputs, outputs))
    output = _AveragePool(outputs, outputs)(x)
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (output, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "googlenet", "mobilenet_v3_small"])
def test_nothing_is_in_place_and_no_pool_is_left_to_chance(name: str) -> None:
    for module in torchvision_model(name).modules():
        assert not getattr(module, "inplace", False)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            assert module.output_size in (1, (1, 1))


def test_vision_transformer_is_made_for_the_images() -> None:
    model = torchvision_model("vit_b_16", channels=1, small=False)
    assert model.get_parameter("network.encoder.pos_embedding").shape == (1, 2 * 2 + 1, 768)
    assert list(model.feature_layers()) == ["conv_proj"]
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)


def test_building_twice_from_one_seed_gives_the_same_network() -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(4)
        models.append((torchvision_model("mobilenet_v3_small"), torch.rand(1)))
    (first, next_drawn), (second, next_of_second) = models
    assert torch.equal(next_drawn, next_of_second)
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    for name, tensor in first.named_buffers():  # the probing run left the statistics as they were
        if name.endswith("num_batches_tracked"):
            assert tensor == 0


@pytest.mark.parametrize(
    ("name", "size", "small", "message"),
    [
        ("resnet81", 32, True, r"name: 'resnet81' is not one of torchvision's .*mean 'resnet18'"),
        ("fasterrcnn_resnet50_fpn", 32, True, r"name: 'fasterrcnn_resnet50_fpn' is not one of"),
        ("alexnet", 32, False, r"name: 'alexnet' .*not take images of 32x32.*image_size to 64"),
        ("vit_b_16", 40, False, r"name: 'vit_b_16' .*not take images of 40x40.*image_size to 64"),
        ("vit_b_16", 32, True, r"small_inputs: true, but name 'vit_b_16' .*small_inputs to false"),
    ],
)
def test_refusals_name_the_setting_in_one_line(
    name: str, size: int, small: bool, message: str
) -> None:
    with pytest.raises(InputError, match=f"^architectures: {message}") as error:
        torchvision_model(name, size=size, small=small)
    assert "\n" not in str(error.value)


def test_proposed_size_is_one_that_works() -> None:
    with pytest.raises(InputError, match="image_size to 64"):
        torchvision_model("alexnet", size=32, small=False)
    assert torchvision_model("alexnet", size=64, small=False)(torch.randn(2, 3, 64, 64)).shape == (
        2,
        5,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_timm_pairs_a_resnet_with_its_squeeze_and_excitation_twin(channels: int) -> None:
    settings = {"family": "timm", "small_inputs": True, "baseline": None}
    plain, squeezed = (
        build({**settings, "name": name}, 5, 32, channels) for name in ("resnet18", "seresnet18")
    )
    images = torch.randn(2, channels, 32, 32)
    assert plain(images).shape == squeezed(images).shape == (2, 5)
    assert list(plain.feature_layers()) == list(squeezed.feature_layers()) == SMALL["resnet18"]
    # two blocks a stage; hidden width C / 16 in whole multiples of eight; layers with bias
    widths = {64: 8, 128: 8, 256: 16, 512: 32}
    extra = sum(2 * (2 * c * hidden + c + hidden) for c, hidden in widths.items())
    assert parameter_count(squeezed) - parameter_count(plain) == extra
    kernels = {model.get_parameter("network.conv1.weight").shape for model in (plain, squeezed)}
    assert kernels == {(64, channels, 3, 3)}


def test_timm_network_of_fixed_size_is_made_for_the_images() -> None:
    settings = {"family": "timm", "name": "vit_tiny_patch16_224", "small_inputs": False}
    assert build(settings, 5, 32)(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    with pytest.raises(InputError, match="small_inputs: true, but name 'vit_tiny_patch16_224'"):
        build({**settings, "small_inputs": True}, 5, 32)


def test_unknown_timm_network_is_named_with_the_closest() -> None:
    with pytest.raises(InputError, match=r"name: 'seresnet81' is not one of timm's .*seresnet18"):
        build({"family": "timm", "name": "seresnet81", "small_inputs": True}, 5, 32)


def test_missing_timm_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"family: 'timm' .*pip install timm"):
        build({"family": "timm", "name": "resnet18", "small_inputs": True}, 5, 32)
