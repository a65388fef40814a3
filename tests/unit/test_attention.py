"""The attention modules against the papers' formulas, and what they cost in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn
from timm.layers.eca import EcaModule
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models import attention as attention_module
from pipeline.models.attention import (
    ATTENTIONS,
    Cbam,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    SelfAttention,
    SimAm,
    SpatialAttention,
)
from pipeline.models.channelwise import channel_means, scale_channels
from pipeline.models.registry import build


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_spatial_attention_is_cbams_formula() -> None:
    torch.manual_seed(0)
    attention = SpatialAttention()
    x = torch.randn(3, 5, 9, 11)
    assert [tuple(parameter.shape) for parameter in attention.parameters()] == [(1, 2, 7, 7)]
    described = torch.stack([x.sum(1) / 5, x.max(1).values], 1)  # (B, 2, H, W): mean, then maximum
    patches = F.unfold(described, 7, padding=3)  # (B, 2 * 49, H * W)
    scores = torch.einsum("bpn,p->bn", patches, attention.conv.weight.detach().flatten())
    expected = (1 / (1 + torch.exp(-scores))).view(3, 1, 9, 11)
    torch.testing.assert_close(attention.weights(x), expected)
    torch.testing.assert_close(attention(x), x * expected)


def test_cbam_is_channel_attention_from_means_and_maxima_then_spatial_attention() -> None:
    torch.manual_seed(1)
    attention = Cbam(32, reduction=8)
    squeeze, excite = (parameter.detach() for parameter in attention.channel.parameters())
    assert squeeze.shape == (4, 32)
    x = torch.randn(2, 32, 6, 7)

    def shared_layers(descriptor: Tensor) -> Tensor:
        return (descriptor @ squeeze.T).clamp(min=0) @ excite.T

    maxima = x.flatten(2).max(2).values
    weights = torch.sigmoid(shared_layers(x.flatten(2).sum(2) / 42) + shared_layers(maxima))
    torch.testing.assert_close(attention.channel.weights(x), weights)
    scaled = x * weights[:, :, None, None]
    expected = scaled * attention.spatial.weights(scaled)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(12, 16, 1), (64, 16, 4)])
def test_cbam_has_one_shared_mlp_and_one_convolution(
    channels: int, reduction: int, hidden: int
) -> None:
    assert parameter_count(Cbam(channels, reduction)) == 2 * channels * hidden + 2 * 49


@pytest.mark.parametrize("heads", [1, 4])
def test_self_attention_adds_pytorchs_multi_head_attention_over_positions(heads: int) -> None:
    torch.manual_seed(2)
    ours = SelfAttention(16, heads)
    theirs = nn.MultiheadAttention(16, heads, batch_first=True)
    norm = nn.LayerNorm(16)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.projection.weight,
            "out_proj.bias": ours.projection.bias,
        }
    )
    with torch.no_grad():
        for parameter in ours.norm.parameters():
            parameter.uniform_(0.5, 1.5)
    norm.load_state_dict(ours.norm.state_dict())
    x = torch.randn(2, 16, 5, 6)
    tokens = norm(x.permute(0, 2, 3, 1).reshape(2, 30, 16))
    attended = theirs(tokens, tokens, tokens)[0]
    expected = x + attended.view(2, 5, 6, 16).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_self_attention_does_not_know_positions_but_the_padding_around_it_does() -> None:
    torch.manual_seed(3)
    attention = SelfAttention(8, 2)
    x = torch.randn(1, 8, 4, 4)
    order = torch.randperm(16)
    shuffled = x.flatten(2)[..., order].view(1, 8, 4, 4)
    expected = attention(x).flatten(2)[..., order]
    torch.testing.assert_close(attention(shuffled).flatten(2), expected)
    even = F.conv2d(torch.ones(1, 8, 4, 4), torch.rand(8, 8, 3, 3), padding=1)
    assert attention(even)[0, 0].unique().numel() > 1


def test_self_attention_keeps_no_weights_between_positions() -> None:
    attention = SelfAttention(32, 4)
    x = torch.randn(16, 32, 32, 32, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = attention(x)
    one_map = x.numel() * x.element_size()
    weights = 16 * 4 * 1024**2 * x.element_size()  # what a stored softmax takes: 128 maps
    assert weights == 128 * one_map
    assert sum(kept.values()) < 10 * one_map
    output.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", list(ATTENTIONS))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_attention_keeps_shape_and_layout_and_leaves_its_input_alone(
    name: str, precision: torch.dtype
) -> None:
    torch.manual_seed(4)
    attention = ATTENTIONS[name](16, 4, 2)
    x = torch.randn(2, 16, 6, 6).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        output = attention(x)
    assert output.shape == x.shape
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)
    torch.testing.assert_close(output, attention(x.contiguous()), rtol=0.05, atol=0.05)
    assert bool(torch.equal(output, x)) is (name == "none")


@pytest.mark.parametrize("name", list(ATTENTIONS))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    torch.manual_seed(5)
    attention = ATTENTIONS[name](4, 2, 2).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (x,))


def test_gradient_of_tied_maxima_is_shared_evenly() -> None:
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    attention = Cbam(1, 1).channel
    nn.init.ones_(attention.squeeze.weight)
    nn.init.ones_(attention.excite.weight)
    attention.weights(x).sum().backward()
    slope = torch.sigmoid(torch.tensor(2.0)) * (1 - torch.sigmoid(torch.tensor(2.0)))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((1, 1, 2, 2), 2 * slope.item() / 4))


@pytest.mark.parametrize(
    ("name", "parts", "kinds"),
    [
        ("none", [], []),
        ("channel", [""], ["channel"]),
        ("spatial", [""], ["spatial"]),
        ("cbam", [".channel", ".spatial"], ["channel", "spatial"]),
        ("eca", [""], ["channel"]),
        ("coordinate", [""], ["elementwise"]),
        ("simam", [""], ["elementwise"]),
        ("self_attention", [""], ["self"]),
    ],
)
@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"family": "cnn", "channels": [4, 8]}, ["attention1", "attention2"]),
        (
            {"family": "densenet", "block_config": [1, 2], "growth_rate": 4},
            ["block1.layer1", "block2.layer1", "block2.layer2"],
        ),
    ],
    ids=["cnn", "densenet"],
)
def test_attention_layers_are_all_that_give_their_weights(
    settings: dict[str, Any], places: list[str], name: str, parts: list[str], kinds: list[str]
) -> None:
    model = build({**settings, "attention": name, "heads": 2}, 10, 16)
    layers = model.attention_layers()
    assert list(layers) == [place + part for place in places for part in parts]
    assert [module.kind for module in layers.values()] == kinds * len(places)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("channel", (3, 8)),
        ("spatial", (3, 1, 5, 6)),
        ("eca", (3, 8)),
        ("coordinate", (3, 8, 5, 6)),
        ("simam", (3, 8, 5, 6)),
        ("self_attention", (3, 1, 5, 6)),
    ],
)
def test_asking_for_the_weights_leaves_the_output_alone(name: str, shape: tuple[int, ...]) -> None:
    attention = ATTENTIONS[name](8, 2, 2)
    x = torch.randn(3, 8, 5, 6)
    before = attention(x)
    assert attention.weights(x).shape == shape
    assert torch.equal(attention(x), before)


@pytest.mark.parametrize("most_scores", [2**20, 100, 1])
def test_self_attentions_weights_are_what_positions_receive_by_pytorchs_attention(
    monkeypatch: pytest.MonkeyPatch, most_scores: int
) -> None:
    monkeypatch.setattr(attention_module, "MOST_SCORES", most_scores)
    torch.manual_seed(7)
    ours = SelfAttention(16, 4).double()
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
    x = 3 * torch.randn(2, 16, 5, 6, dtype=torch.float64)
    tokens = ours.norm(x.flatten(2).transpose(1, 2))
    scores = theirs(tokens, tokens, tokens)[1]  # (B, queries, keys), mean over the heads
    assert scores is not None
    weights = ours.weights(x)
    torch.testing.assert_close(weights.flatten(1), scores.sum(1))
    torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(2, dtype=torch.float64))


def test_self_attentions_weights_are_the_softmax_by_hand() -> None:
    attention = SelfAttention(2, 1)
    with torch.no_grad():
        attention.qkv.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [0, 0], [0, 0]]))
        attention.qkv.bias.zero_()
    # layer normalisation maps two channels to (1, -1) or (-1, 1)
    x = torch.tensor([[5.0, 1, 1], [1, 5, 5]]).view(1, 2, 1, 3)
    alike, opposite = math.exp(2 / math.sqrt(2)), math.exp(-2 / math.sqrt(2))
    first_share = alike / (alike + 2 * opposite)  # of its attention, by the first position
    other_share = opposite / (2 * alike + opposite)  # and by each of the other two
    first = first_share + 2 * other_share
    expected = torch.tensor([first, (3 - first) / 2, (3 - first) / 2]).view(1, 1, 1, 3)
    torch.testing.assert_close(attention.weights(x), expected, rtol=1e-4, atol=1e-4)


def test_mean_and_maximum_go_through_the_same_weights() -> None:
    torch.manual_seed(6)
    squeezed = ChannelAttention(8, 2)
    both = Cbam(8, 2).channel
    both.load_state_dict(squeezed.state_dict())
    flat = torch.randn(2, 8, 1, 1)  # mean and maximum are the same
    logit = torch.logit(squeezed.weights(flat).double())
    torch.testing.assert_close(
        torch.logit(both.weights(flat).double()), 2 * logit, rtol=1e-4, atol=1e-5
    )
    assert parameter_count(both) == parameter_count(squeezed)


def test_cbam_is_timms() -> None:
    torch.manual_seed(8)
    ours, theirs = Cbam(32, reduction=8), CbamModule(32, rd_channels=4).eval()
    norm = theirs.spatial.conv.bn  # the paper's figures have none
    nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)
    own = [*ours.channel.parameters(), *ours.spatial.parameters()]
    other = [theirs.channel.fc1.weight, theirs.channel.fc2.weight, theirs.spatial.conv.conv.weight]
    with torch.no_grad():
        for tensor, weight in zip(other, own, strict=True):
            tensor.copy_(weight.view_as(tensor))
    x = torch.randn(2, 32, 6, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("channels", [8, 12, 64, 128, 512, 1024, 2048])
def test_efficient_channel_attention_is_timms(channels: int) -> None:
    torch.manual_seed(9)
    ours, theirs = EfficientChannelAttention(channels), EcaModule(channels)
    theirs.load_state_dict(ours.state_dict())  # of the same size
    x = torch.randn(2, channels, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.weights(x)[..., None, None] * x, theirs(x))


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (4, 1), (7, 1), (8, 3), (127, 3), (128, 5)])
def test_efficient_channel_attention_is_as_wide_as_the_papers_formula_says(
    channels: int, size: int
) -> None:
    quotient = np.log2(channels) / 2 + 1 / 2
    odd = np.arange(1, 20, 2)
    nearest = odd[abs(odd - quotient) == abs(odd - quotient).min()]  # two where it is even
    assert size == nearest.max() == parameter_count(EfficientChannelAttention(channels))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(6, 7), (1, 1), (1, 5)])
def test_coordinate_attention_is_timms(size: tuple[int, int], training: bool) -> None:
    torch.manual_seed(10)
    ours, theirs = CoordinateAttention(32, reduction=8), CoordAttn(32, rd_channels=4)
    nn.init.uniform_(ours.norm.weight, 0.5, 1.5)
    nn.init.normal_(ours.norm.bias)
    nn.init.normal_(ours.norm.running_mean)
    nn.init.uniform_(ours.norm.running_var, 0.5, 1.5)
    names = {"squeeze": "conv1", "norm": "bn1", "rows": "conv_h", "columns": "conv_w"}
    own = {key.partition("."): tensor for key, tensor in ours.state_dict().items()}
    theirs.load_state_dict(
        {f"{names[module]}.{name}": tensor for (module, _, name), tensor in own.items()}
    )
    x = torch.randn(3, 32, *size)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))
    torch.testing.assert_close(ours.norm.state_dict(), theirs.bn1.state_dict())


@pytest.mark.parametrize(("channels", "hidden"), [(12, 1), (64, 4)])
def test_coordinate_attention_has_three_linear_layers_and_a_norm(
    channels: int, hidden: int
) -> None:
    counted = parameter_count(CoordinateAttention(channels, reduction=16))
    assert counted == 3 * channels * hidden + 2 * hidden


@pytest.mark.parametrize("size", [(6, 7), (2, 1), (1, 1)])
def test_simam_is_the_papers_least_energy(size: tuple[int, int]) -> None:
    x = np.random.default_rng(11).normal(2, 3, (2, 5, *size))
    mean = x.mean((2, 3), keepdims=True)
    variance = x.var((2, 3), keepdims=True)
    energy = 4 * (variance + 1e-4) / ((x - mean) ** 2 + 2 * variance + 2 * 1e-4)  # equation 5
    expected = x / (1 + np.exp(-1 / energy))
    attention = SimAm()
    np.testing.assert_allclose(attention(torch.from_numpy(x)).numpy(), expected, rtol=1e-12)
    assert parameter_count(attention) == 0


@pytest.mark.parametrize("name", list(ATTENTIONS))
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3)])
def test_attention_takes_maps_of_any_size(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(12)
    attention = ATTENTIONS[name](16, 4, 2)
    x = torch.randn(2, 16, *size, requires_grad=True)
    output = attention(x)
    output.square().sum().backward()
    assert output.shape == x.shape
    assert x.grad is not None
    assert output.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_means_and_scaled_channels_are_those_of_the_formula_in_any_layout(
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weights = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(channel_means(x), x.mean((2, 3)))
    scaled = scale_channels(x, weights)
    torch.testing.assert_close(scaled, torch.einsum("bchw,bc->bchw", x, weights))
    assert scaled.is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(
        lambda x, w: scale_channels(x, w + channel_means(x)), (x, weights)
    )
