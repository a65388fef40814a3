"""The parts of the networks: geometry, norms, pools, heads; and other libraries' networks."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
import torchvision
from timm.layers import SEModule
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.inspection import record_outputs
from pipeline.models.layers import ACTIVATIONS, NORMALISATIONS, Parts
from pipeline.models.pooling import POOLINGS
from pipeline.models.registry import build
from pipeline.settings.image_sizes import POOLED_SIZE
from pipeline.system.errors import InputError
from tests.unit.made_settings import conflicts

CNN: dict[str, Any] = {"family": "cnn", "channels": [4, 8], "hidden": 6, "norm_groups": 2}
DENSENET: dict[str, Any] = {
    "family": "densenet",
    "growth_rate": 4,
    "block_config": [2, 2],
    "num_init_features": 8,
    "norm_groups": 2,
}


def squeezed(channels: int) -> nn.Module:
    """timm's squeeze and excitation, with half as many hidden units."""
    return SEModule(channels, rd_channels=channels // 2, bias=False)


def plain_cnn(channels: list[int], kernel_size: int, attention: str) -> nn.Sequential:
    """The CNN of `CNN` for 3 x 16 x 16 pixels, of PyTorch's layers and timm's attention."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise([3, *channels]):
        layers += [
            nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            squeezed(after) if attention == "channel" else nn.Identity(),
            nn.MaxPool2d(2),
        ]
    inputs = channels[-1] * (16 // 2 ** len(channels)) ** 2
    head = [nn.Flatten(), nn.Linear(inputs, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 10)]
    return nn.Sequential(*layers, *head)


def torchvisions_densenet(small_inputs: bool, attention: str) -> nn.Module:
    """The DenseNet of `DENSENET`, torchvision's with timm's attention after each dense layer."""
    model = torchvision.models.DenseNet(4, (2, 2), 8, num_classes=10)
    if small_inputs:
        model.features.conv0 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        for name in ("norm0", "relu0", "pool0"):
            model.features.set_submodule(name, nn.Identity())
    if attention == "channel":
        for name, module in list(model.named_modules()):
            if name.endswith("conv2"):
                model.set_submodule(name, nn.Sequential(module, squeezed(4)))
    return model


def trained(model: nn.Module) -> list[Tensor]:
    """Train for two steps of one seed; return logits, weights and running statistics."""
    torch.manual_seed(1)
    images, labels = torch.randn(6, 3, 16, 16, dtype=torch.float64), torch.arange(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        return [model.eval()(images), *model.parameters(), *model.buffers()]


def assert_trains_as(ours: nn.Module, theirs: nn.Module) -> None:
    """Give both the same weights, in their order, and train them."""
    with torch.no_grad():
        for tensor, expected in zip(theirs.parameters(), ours.parameters(), strict=True):
            tensor.copy_(expected.view_as(tensor))
    for found, expected in zip(trained(ours.double()), trained(theirs.double()), strict=True):
        torch.testing.assert_close(found, expected.view_as(found), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention", ["none", "channel"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_cnn_trains_as_pytorchs_layers_with_timms_attention(
    kernel_size: int, attention: str
) -> None:
    settings = {**CNN, "kernel_size": kernel_size, "attention": attention, "reduction": 2}
    assert_trains_as(build(settings, 10, 16), plain_cnn([4, 8], kernel_size, attention))


@pytest.mark.parametrize("attention", ["none", "channel"])
@pytest.mark.parametrize("small_inputs", [True, False])
def test_densenet_trains_as_torchvisions_with_timms_attention(
    small_inputs: bool, attention: str
) -> None:
    settings = {**DENSENET, "small_inputs": small_inputs, "attention": attention, "reduction": 2}
    assert_trains_as(build(settings, 10, 16), torchvisions_densenet(small_inputs, attention))


def test_weights_are_drawn_as_by_pytorch_and_torchvision() -> None:
    for settings, theirs in (
        (CNN, lambda: plain_cnn([4, 8], 3, "none")),
        ({**DENSENET, "small_inputs": False}, lambda: torchvisions_densenet(False, "none")),
    ):
        torch.manual_seed(0)
        ours = build(settings, 10, 16)
        torch.manual_seed(0)
        for found, expected in zip(ours.parameters(), theirs().parameters(), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", list(NORMALISATIONS))
def test_norms_are_the_papers_formulas(name: str) -> None:
    torch.manual_seed(2)
    norm = Parts("relu", name, 2, "none", 1, 1).make_norm(6)
    x = 3 * torch.randn(4, 6, 5, 5) + 1
    groups = {  # what each mean and variance is taken over: the last axis
        "batch": x.transpose(0, 1).reshape(6, -1),
        "layer": x.reshape(4, -1),
        "instance": x.reshape(24, -1),
        "group": x.reshape(8, -1),
    }
    values = groups[name].double()
    values = values - values.mean(1, keepdim=True)
    values = values / (values.square().mean(1, keepdim=True) + 1e-5).sqrt()
    expected = values.view(6, 4, 5, 5).transpose(0, 1) if name == "batch" else values.view_as(x)
    torch.testing.assert_close(norm(x), expected.float(), rtol=1e-4, atol=1e-4)
    assert {parameter.shape for parameter in norm.parameters()} == {torch.Size([6])}


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("pooling", list(POOLINGS))
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, None, 1, 1), (2, None, 1, 4), (1, 0, 1, 1), (3, 2, 2, 2), (1, None, 3, 1), (2, 1, 1, 1)],
)
def test_every_geometry_gives_logits_down_to_its_smallest_image_and_no_further(
    kernel_size: int, pooling: str, stride: int, padding: int | None, dilation: int, groups: int
) -> None:
    settings = {
        **CNN,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "pooling": pooling,
    }

    def is_of_use(size: int) -> bool:
        """Tell whether PyTorch runs it, and a dilated kernel learns in more than one place."""
        model = build({**settings, "head": "global_average", "activation": "tanh"}, 3, 128)
        try:
            model(torch.randn(2, 3, size, size)).square().sum().backward()
        except RuntimeError:
            return False
        learning = [
            int((model.get_submodule(name).conv.weight.grad.abs().sum((0, 1)) > 0).sum())
            for name in model.blocks
        ]
        return dilation == 1 or min(learning) > 1

    smallest = next(size for size in range(1, 129) if is_of_use(size))
    for size in (smallest, smallest + 1, smallest + 10):
        assert build(settings, 3, size)(torch.randn(2, 3, size, size)).shape == (2, 3)
        assert conflicts(settings, size) == []
    if smallest > 1:
        (conflict,) = conflicts(settings, smallest - 1)
        assert f"at least {smallest}x{smallest} pixels" in conflict


def test_too_small_images_name_the_settings_responsible() -> None:
    settings = {**CNN, "stride": 2, "padding": 0, "normalisation": "instance"}
    (conflict,) = conflicts(settings, 8)
    for cause in ("channels [4, 8]", "stride 2", "padding 0", "normalisation instance", "max"):
        assert cause in conflict
    (conflict,) = conflicts(CNN, 3)
    for blameless in ("stride", "padding", "normalisation", "dilation"):
        assert blameless not in conflict


@pytest.mark.parametrize(
    ("settings", "smallest"),
    [
        pytest.param({**CNN, "normalisation": "instance"}, 4, id="cnn"),
        pytest.param({**CNN, "normalisation": "instance", "pooling": "none"}, 2, id="no pool"),
        pytest.param(
            {**CNN, "normalisation": "instance", "stride": 2, "pooling": "none"}, 5, id="strided"
        ),
        pytest.param(
            {**CNN, "normalisation": "group", "norm_groups": 4, "stride": 2, "pooling": "none"},
            3,
            id="a channel a group in the first block alone",
        ),
        pytest.param({**DENSENET, "normalisation": "instance"}, 4, id="densenet"),
        pytest.param(
            {**DENSENET, "normalisation": "instance", "small_inputs": False}, 13, id="imagenet"
        ),
        pytest.param(
            {**DENSENET, "normalisation": "group", "norm_groups": 4, "bn_size": 1},
            4,
            id="a channel a group in the bottleneck",
        ),
    ],
)
def test_no_norm_is_left_with_single_values(settings: dict[str, Any], smallest: int) -> None:
    model = build(settings, 3, smallest)
    sizes: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.InstanceNorm2d | nn.GroupNorm):
            module.register_forward_hook(
                lambda module, inputs, output: sizes.append(
                    inputs[0][0].numel() // getattr(module, "num_groups", inputs[0].shape[1])
                )
            )
    model(torch.randn(2, 3, smallest, smallest)).sum().backward()
    assert min(sizes) > 1
    assert conflicts(settings, smallest) == []
    (conflict,) = conflicts(settings, smallest - 1)
    assert re.search(rf"normalisation (instance|group) .*at least {smallest}x", conflict)


@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_pools_do_what_their_papers_say(pooling: str) -> None:
    torch.manual_seed(3)
    pool = POOLINGS[pooling](4, 2, "tanh")
    x = torch.randn(2, 4, 7, 7)
    if pooling in ("strided_conv", "dilated_conv"):
        weight, bias = pool.get_parameter("conv.weight"), pool.get_parameter("conv.bias")
        spread = {"stride": 2, "padding": 1} if pooling == "strided_conv" else {"padding": 2}
        dilation = 2 if pooling == "dilated_conv" else 1
        expected = torch.tanh(F.conv2d(x, weight, bias, groups=2, dilation=dilation, **spread))
    elif pooling == "none":
        expected = x
    else:
        windows = x[:, :, :6, :6].unflatten(3, (3, 2)).unflatten(2, (3, 2))
        expected = windows.mean((3, 5)) if pooling == "average" else windows.amax((3, 5))
    torch.testing.assert_close(pool(x), expected)
    assert POOLED_SIZE[pooling](7) == expected.shape[2]


def test_groups_are_those_of_all_convolutions_but_the_first() -> None:
    model = build({**CNN, "groups": 4, "pooling": "strided_conv"}, 3, 16)
    groups = [module.groups for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert groups == [1, 4, 4, 4]


def test_null_padding_keeps_the_size_at_stride_1() -> None:
    for kernel_size, dilation in itertools.product((3, 5), (1, 2, 3)):
        settings = {**CNN, "kernel_size": kernel_size, "dilation": dilation, "pooling": "none"}
        model = build(settings, 3, 11)
        assert model.get_parameter("hidden.weight").shape == (6, 8 * 11**2)
        assert model(torch.randn(2, 3, 11, 11)).shape == (2, 3)


def test_global_average_head_gives_the_means_of_the_last_maps() -> None:
    model = build({**CNN, "head": "global_average"}, 3, 16).eval()
    last = {"maps": model.get_submodule("block2")}
    with torch.no_grad(), record_outputs(last) as outputs:
        logits = model(torch.randn(2, 3, 16, 16))
        means = outputs["maps"].flatten(2).sum(2) / 16
        expected = model.classifier(F.relu(model.hidden(means)))  # type: ignore[operator]
    torch.testing.assert_close(logits, expected)
    assert model.get_parameter("hidden.weight").shape == (6, 8)


def test_flattened_head_of_a_hundred_million_weights_is_refused() -> None:
    settings = {**CNN, "channels": [8], "hidden": 512, "pooling": "none"}
    width = (100_000_000 // (8 * 512)) ** 0.5  # of the largest map that is still allowed
    assert 156 < width < 157
    with pytest.raises(InputError, match=r"head: 'flatten' after pooling 'none'.*global_average"):
        build(settings, 3, 157)
    assert build({**settings, "head": "global_average"}, 3, 157)(torch.randn(1, 3, 157, 157)).shape
    assert build(settings, 3, 40).get_parameter("hidden.weight").shape == (512, 8 * 1600)


@pytest.mark.parametrize("normalisation", list(NORMALISATIONS))
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("settings", [CNN, DENSENET], ids=["cnn", "densenet"])
def test_every_activation_and_norm_is_in_every_place(
    settings: dict[str, Any], activation: str, normalisation: str
) -> None:
    torch.manual_seed(4)
    chosen = {"activation": activation, "normalisation": normalisation, "small_inputs": False}
    if settings is CNN:
        del chosen["small_inputs"]
    model = build({**settings, **chosen}, 10, 16)
    activations = [m for m in model.modules() if isinstance(m, tuple(ACTIVATIONS.values()))]
    kind = type(Parts("relu", normalisation, 2, "none", 1, 1).make_norm(4))
    norms = [
        m
        for m in model.modules()
        if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d)
    ]
    assert {type(module) for module in activations} == {ACTIVATIONS[activation]}
    assert {type(module) for module in norms} == {kind}
    # the stem's, two in each of four layers, the transition's and the last; or one a block
    assert len(norms) == (2 if settings is CNN else 11)
    assert len(activations) == (3 if settings is CNN else 11)
    loss = F.cross_entropy(model(torch.randn(2, 3, 16, 16)), torch.tensor([0, 1]))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())  # type: ignore[union-attr]


def test_unknown_parts_are_named_with_the_closest() -> None:
    for settings, message in [
        ({**CNN, "pooling": "avrage"}, "pooling: 'avrage'.*mean 'average'"),
        ({**CNN, "normalisation": "bach"}, "normalisation: 'bach'.*mean 'batch'"),
        ({**CNN, "head": "flat"}, "head: 'flat'.*mean 'flatten'"),
        ({**CNN, "attention": "self_atention"}, "attention: 'self_atention'.*'self_attention'"),
        ({**DENSENET, "normalisation": "grup"}, "normalisation: 'grup'.*mean 'group'"),
        ({**DENSENET, "activation": "mich"}, "activation: 'mich'.*mean 'mish'"),
    ]:
        with pytest.raises(InputError, match=rf"architectures\.candidate\.{message}"):
            conflicts(settings, 16)
