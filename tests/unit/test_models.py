"""The networks: sizes, published parameter counts, torchvision's DenseNet, exact recomputation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.attention import ATTENTIONS, ChannelAttention
from pipeline.models.inspection import record_outputs
from pipeline.models.layers import ACTIVATIONS, NORMALISATIONS, Classifier
from pipeline.models.registry import build
from pipeline.system.errors import InputError
from tests.unit.made_settings import conflicts

CNN = {"family": "cnn", "channels": [32, 64, 128], "kernel_size": 3, "hidden": 512, "dropout": 0.5}
DENSENET = {"family": "densenet", "growth_rate": 12, "num_init_features": 24, "compression": 0.5}
BC_40 = {**DENSENET, "block_config": [6, 6, 6]}
BC_100 = {**DENSENET, "block_config": [16, 16, 16]}
DENSENET_121 = {
    "family": "densenet",
    "growth_rate": 32,
    "block_config": [6, 12, 24, 16],
    "num_init_features": 64,
    "bn_size": 4,
    "compression": 0.5,
    "small_inputs": False,
}
TINY_CNN = {"family": "cnn", "channels": [4, 8, 16], "hidden": 16}
TINY_DENSENET = {
    "family": "densenet",
    "growth_rate": 4,
    "block_config": [2, 3, 2],
    "num_init_features": 8,
}
SE: dict[str, Any] = {"attention": "channel", "reduction": 16}


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "num_classes", "image_size", "expected"),
    [
        pytest.param(CNN, 10, 32, 1_147_914, id="cnn"),
        pytest.param({**CNN, **SE}, 10, 32, 1_150_602, id="ca_cnn"),
        pytest.param(BC_100, 10, 32, 769_162, id="bc-100-12"),
        pytest.param(BC_100, 100, 32, 800_032, id="bc-100-12, 100 classes"),
        pytest.param(BC_40, 10, 32, 176_122, id="bc-40-12"),
        pytest.param({**BC_100, **SE}, 10, 32, 770_314, id="se-bc-100-12"),
        pytest.param(DENSENET_121, 1000, 224, 7_978_856, id="densenet-121"),
    ],
)
def test_parameter_counts_are_the_published_ones(
    settings: dict[str, Any], num_classes: int, image_size: int, expected: int
) -> None:
    assert parameter_count(build(settings, num_classes, image_size)) == expected


def test_defaults_are_the_networks_of_the_specification() -> None:
    assert parameter_count(build({"family": "cnn"}, 10, 32)) == 1_147_914
    assert parameter_count(build({"family": "densenet"}, 10, 32)) == 176_122


def torchvision_name(name: str) -> str:
    """Return torchvision's name for one of our DenseNet's tensors."""
    module, _, rest = name.partition(".")
    if module == "stem":
        layer, _, tensor = rest.partition(".")
        return f"features.{layer}0.{tensor}"
    if module == "norm":
        return f"features.norm5.{rest}"
    if module == "classifier":
        return name
    return "features." + name.replace("block", "denseblock").replace("layer", "denselayer")


@pytest.fixture(scope="module")
def densenet_121() -> tuple[Classifier, nn.Module]:
    """Our DenseNet-121 with torchvision's random weights, and torchvision's own."""
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(weights=None)
    weights = theirs.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("running_mean", "running_var")):  # as if after training, not 0 and 1
            tensor.add_(torch.rand_like(tensor) / 2)
    ours = build(DENSENET_121, 1000, 224)
    names = {name: torchvision_name(name) for name in ours.state_dict()}
    assert sorted(names.values()) == sorted(weights)
    ours.load_state_dict({name: weights[theirs] for name, theirs in names.items()})
    return ours, theirs


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_densenet_121_gives_torchvisions_logits(
    densenet_121: tuple[Classifier, nn.Module], training: bool
) -> None:
    ours, theirs = (copy.deepcopy(model).train(training) for model in densenet_121)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    if training:
        statistics, expected = dict(ours.named_buffers()), dict(theirs.named_buffers())
        for name, tensor in statistics.items():
            torch.testing.assert_close(tensor, expected[torchvision_name(name)])


@pytest.mark.parametrize("efficient", [False, True], ids=["plain", "efficient"])
def test_densenet_121_gives_torchvisions_gradients(
    densenet_121: tuple[Classifier, nn.Module], efficient: bool
) -> None:
    torch.manual_seed(1)
    ours = build({**DENSENET_121, "efficient": efficient}, 1000, 64)
    ours.load_state_dict(densenet_121[0].state_dict())
    ours.double().train()
    theirs = copy.deepcopy(densenet_121[1]).double().train()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    labels = torch.tensor([0, 500, 999])
    for model in (ours, theirs):
        F.cross_entropy(model(images), labels).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        theirs_grad = expected[torchvision_name(name)].grad
        torch.testing.assert_close(parameter.grad, theirs_grad, rtol=1e-8, atol=1e-10)


def test_densenet_initialises_as_torchvision() -> None:
    torch.manual_seed(2)
    model = build({**DENSENET_121, "attention": "channel"}, 10, 32)
    for name, parameter in model.named_parameters():
        if "conv" in name and parameter.numel() > 10_000:
            fan_in = parameter[0].numel()
            assert parameter.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
        elif "norm" in name:
            assert torch.all(parameter == (1 if name.endswith("weight") else 0))
    assert torch.all(model.get_parameter("classifier.bias") == 0)


def test_state_dict_reads_as_the_network_is_drawn() -> None:
    cnn = build({**TINY_CNN, **SE}, 10, 32).state_dict()
    assert {"block1.conv.weight", "block3.attention.squeeze.weight", "hidden.bias"} <= set(cnn)
    densenet = build({**TINY_DENSENET, **SE}, 10, 32).state_dict()
    assert {
        "stem.conv.weight",
        "block2.layer3.conv2.weight",
        "block2.layer3.attention.excite.weight",
        "transition1.conv.weight",
        "classifier.weight",
    } <= set(densenet)


def test_channel_attention_is_the_squeeze_and_excitation_formula() -> None:
    torch.manual_seed(3)
    attention = ChannelAttention(32, reduction=16)
    x = torch.randn(5, 32, 7, 9)
    squeeze, excite = (parameter.detach() for parameter in attention.parameters())
    assert squeeze.shape == (2, 32)
    assert excite.shape == (32, 2)
    means = x.sum(dim=3).sum(dim=2) / (7 * 9)
    hidden = torch.einsum("bc,hc->bh", means, squeeze).clamp(min=0)
    expected = 1 / (1 + torch.exp(-torch.einsum("bh,ch->bc", hidden, excite)))
    weights = attention.weights(x)
    torch.testing.assert_close(weights, expected)
    assert weights.min() > 0
    assert weights.max() < 1
    torch.testing.assert_close(attention(x), torch.einsum("bchw,bc->bchw", x, expected))


@pytest.mark.parametrize(
    ("channels", "reduction", "hidden"), [(12, 16, 1), (16, 16, 1), (33, 16, 2), (8, 1, 8)]
)
def test_channel_attention_has_at_least_one_hidden_unit(
    channels: int, reduction: int, hidden: int
) -> None:
    attention = ChannelAttention(channels, reduction)
    assert parameter_count(attention) == 2 * channels * hidden  # no bias


def test_cnn_is_conv_norm_relu_attention_pool_then_two_linear_layers() -> None:
    torch.manual_seed(4)
    model = build({**CNN, **SE}, 10, 32).eval()
    weights = model.state_dict()
    images = torch.randn(2, 3, 32, 32)
    x = images
    for name in ("block1", "block2", "block3"):
        x = F.conv2d(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], padding=1)
        x = F.relu(x / (1 + 1e-5) ** 0.5)  # a fresh batch norm: mean 0, variance 1, weight 1
        hidden = F.relu(x.mean((2, 3)) @ weights[f"{name}.attention.squeeze.weight"].T)
        scale = torch.sigmoid(hidden @ weights[f"{name}.attention.excite.weight"].T)
        x = F.max_pool2d(x * scale[..., None, None], 2)
    x = F.relu(x.flatten(1) @ weights["hidden.weight"].T + weights["hidden.bias"])
    expected = x @ weights["classifier.weight"].T + weights["classifier.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


def test_dense_layer_is_the_papers_with_attention_on_the_new_channels() -> None:
    torch.manual_seed(5)
    model = build({**TINY_DENSENET, **SE}, 10, 32).eval()
    layer = model.get_submodule("block1.layer2")
    weights = layer.state_dict()
    first, second = torch.randn(2, 8, 6, 6), torch.randn(2, 4, 6, 6)
    norm = (1 + 1e-5) ** 0.5
    x = F.conv2d(F.relu(torch.cat([first, second], 1) / norm), weights["conv1.weight"])
    x = F.conv2d(F.relu(x / norm), weights["conv2.weight"], padding=1)
    hidden = F.relu(x.mean((2, 3)) @ weights["attention.squeeze.weight"].T)
    expected = x * torch.sigmoid(hidden @ weights["attention.excite.weight"].T)[..., None, None]
    with torch.no_grad():
        torch.testing.assert_close(layer([first, second]), expected)


def test_cnn_has_attention_in_the_named_blocks_and_is_plain_in_the_others() -> None:
    model = build({**TINY_CNN, **SE, "attention_at": [1, 3]}, 10, 32).eval()
    assert list(model.attention_layers()) == ["attention1", "attention3"]
    images, plain = torch.randn(2, 3, 32, 32), build(TINY_CNN, 10, 32).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    x = images
    with torch.no_grad():
        for number in (1, 2, 3):
            block = plain.get_submodule(f"block{number}")
            x = block.activation(block.norm(block.conv(x)))
            if number != 2:
                x = model.attention_layers()[f"attention{number}"](x)
            x = block.pool(x)
        expected = plain.classifier(plain.activation(plain.hidden(x.flatten(1))))
        torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize(
    ("place", "widths"),
    [
        ("layers", dict.fromkeys(["block1.layer1", "block1.layer2", "block2.layer1"], 4)),
        ("transitions", {"transition1": 8}),
        ("blocks", {"attention1": 16, "attention2": 12}),
    ],
)
def test_densenet_has_attention_where_it_is_placed(place: str, widths: dict[str, int]) -> None:
    settings = {**TINY_DENSENET, "block_config": [2, 1]}  # channels 8 to 16, 8 to 12
    model = build({**settings, **SE, "attention_at": place}, 10, 32).eval()
    layers = model.attention_layers()
    assert {name: layer.excite.out_features for name, layer in layers.items()} == widths
    plain = build(settings, 10, 32).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    after = {
        "layers": {name: f"{name}.conv2" for name in widths},
        "transitions": {"transition1": "transition1.conv"},
        "blocks": {"attention1": "block1", "attention2": "block2"},
    }[place]
    for name, module in after.items():
        layer = layers[name]
        plain.get_submodule(module).register_forward_hook(
            lambda module, inputs, output, layer=layer: layer(output)
        )
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))


@pytest.mark.parametrize(
    ("settings", "default"),
    [(TINY_CNN, "all"), (TINY_CNN, [1, 2, 3]), (TINY_DENSENET, "layers")],
    ids=str,
)
def test_place_of_attention_is_by_default_where_it_was(
    settings: dict[str, Any], default: str | list[int]
) -> None:
    states = []
    for placed in ({}, {"attention_at": default}):
        torch.manual_seed(0)
        states.append(build({**settings, **SE, **placed}, 10, 32).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("channels", [[4], [4, 8], [4, 8, 16, 32]])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_cnn_takes_any_number_of_blocks(channels: list[int], kernel_size: int) -> None:
    settings = {**TINY_CNN, **SE, "channels": channels, "kernel_size": kernel_size}
    model = build(settings, 10, 33)
    assert model(torch.randn(2, 3, 33, 33)).shape == (2, 10)
    assert len(model.feature_layers()) == len(model.attention_layers()) == len(channels)
    pooled = 33 // 2 ** len(channels)
    assert model.get_parameter("hidden.weight").shape == (16, channels[-1] * pooled**2)


@pytest.mark.parametrize(
    ("attention", "image_size"),
    [
        (attention, image_size)
        for attention in ATTENTIONS
        for image_size in (8, 16, 28, 32, 33, 64, 224)
        if (attention, image_size) != ("self_attention", 224)  # minutes: 50,176 positions, squared
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(TINY_CNN, id="cnn"),
        pytest.param(TINY_DENSENET, id="densenet"),
        pytest.param(
            {**TINY_DENSENET, "small_inputs": False, "block_config": [2, 3]}, id="densenet-imagenet"
        ),
    ],
)
def test_every_image_size_that_the_strides_allow_trains(
    settings: dict[str, Any], image_size: int, in_channels: int, attention: str
) -> None:
    settings = {**settings, "attention": attention, "baseline": None}
    model = build(settings, 7, image_size, in_channels)
    images = torch.randn(2, in_channels, image_size, image_size)
    logits = model(images.contiguous(memory_format=torch.channels_last))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "smallest"),
    [
        (TINY_CNN, 8),
        ({**TINY_CNN, "channels": [4]}, 2),
        (TINY_DENSENET, 4),
        ({**TINY_DENSENET, "small_inputs": False}, 13),
        # torchvision.models.DenseNet121_Weights.IMAGENET1K_V1.meta["min_size"]
        ({**TINY_DENSENET, "small_inputs": False, "block_config": [1, 1, 1, 1]}, 29),
    ],
)
def test_smallest_image_size_works_and_one_pixel_less_is_an_error(
    settings: dict[str, Any], smallest: int
) -> None:
    model = build(settings, 10, smallest)
    assert model(torch.randn(2, 3, smallest, smallest)).shape == (2, 10)
    assert conflicts(settings, smallest) == []
    (conflict,) = conflicts(settings, smallest - 1)
    assert f"at least {smallest}x{smallest}" in conflict
    assert f"raise data.image_size to {smallest}" in conflict


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "densnet"}, r"\.family: 'densnet'.*did you mean 'densenet'"),
        ({**TINY_CNN, "attention": "chanel"}, r"\.attention.*'channel'\?"),
        ({**TINY_DENSENET, "attention": "se"}, r"\.attention: 'se' .*none, channel"),
        ({**TINY_CNN, "attention_at": "al"}, r"\.attention_at: 'al' is neither all nor a list"),
        ({**TINY_CNN, "attention_at": [0]}, r"\.attention_at: \[0\] is neither all nor a list"),
        ({**TINY_DENSENET, "attention_at": [1]}, r"\.attention_at: \[1\] is not one of layers"),
        ({**TINY_CNN, "activation": "rellu"}, r"\.activation.*did you mean 'relu'"),
        ({**TINY_CNN, "chanels": [8]}, r"\.chanels: no such setting.*did you mean 'channels'"),
        ({**TINY_DENSENET, "growth": 1}, r"\.growth: no such setting.*'growth_rate'"),
        ({**TINY_CNN, "num_classes": 3}, r"\.num_classes: no such setting"),
        ({**TINY_CNN, "kernel_size": 4}, r"\.kernel_size: 4 is not one of 3, 5"),
        ({**TINY_CNN, "channels": []}, r"\.channels"),
        ({**TINY_DENSENET, "block_config": []}, r"\.block_config"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"architectures\.candidate{message}"):
        conflicts(settings, 32)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_leave_their_input_alone(name: str) -> None:
    x = torch.linspace(-3, 3, 50)
    before = x.clone()
    expected = getattr(F, name)(before)
    torch.testing.assert_close(ACTIVATIONS[name]()(x), expected)
    assert torch.equal(x, before)
    assert (
        build({**TINY_CNN, "activation": name}, 10, 16)(torch.randn(2, 3, 16, 16)).isfinite().all()
    )


@pytest.mark.parametrize("settings", [CNN, BC_40, DENSENET_121], ids=["cnn", "small", "imagenet"])
def test_nothing_is_computed_in_place(settings: dict[str, Any]) -> None:
    model = build(settings, 10, 32)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        pytest.param(
            CNN,
            {"conv1": (32, 32, 32), "conv2": (64, 16, 16), "conv3": (128, 8, 8)},
            id="cnn",
        ),
        pytest.param(
            BC_40,
            {
                "stem": (24, 32, 32),
                "block1": (96, 32, 32),
                "block2": (120, 16, 16),
                "block3": (132, 8, 8),
            },
            id="densenet",
        ),
        pytest.param(
            DENSENET_121,
            {
                "stem": (64, 8, 8),
                "block1": (256, 8, 8),
                "block2": (512, 4, 4),
                "block3": (1024, 2, 2),
                "block4": (1024, 1, 1),
            },
            id="densenet-121",
        ),
    ],
)
@pytest.mark.parametrize("attention", list(ATTENTIONS))
def test_feature_layers_give_maps_from_shallow_to_deep(
    settings: dict[str, Any], shapes: dict[str, tuple[int, ...]], attention: str
) -> None:
    model = build({**settings, "attention": attention}, 10, 32).eval()
    with torch.no_grad(), record_outputs(model.feature_layers()) as outputs:
        model(torch.randn(2, 3, 32, 32))
    assert {name: tuple(maps.shape[1:]) for name, maps in outputs.items()} == shapes
    assert list(outputs) == list(model.feature_layers())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (TINY_CNN, ["attention1", "attention2", "attention3"]),
        (
            TINY_DENSENET,
            [
                f"block{b}.layer{n}"
                for b, layers in ((1, 2), (2, 3), (3, 2))
                for n in range(1, layers + 1)
            ],
        ),
    ],
    ids=["cnn", "densenet"],
)
def test_attention_layers_are_all_of_them_in_order(
    settings: dict[str, Any], names: list[str]
) -> None:
    assert build(settings, 10, 32).attention_layers() == {}
    model = build({**settings, **SE}, 10, 32)
    layers = model.attention_layers()
    assert list(layers) == names
    ran: list[nn.Module] = []
    for layer in layers.values():
        layer.register_forward_hook(lambda module, inputs, output: ran.append(module))
    model(torch.randn(2, 3, 32, 32))
    assert ran == list(layers.values())


@pytest.mark.parametrize("settings", [TINY_CNN, TINY_DENSENET], ids=["cnn", "densenet"])
def test_channels_last_stays_channels_last(settings: dict[str, Any]) -> None:
    model = build({**settings, **SE}, 10, 32).to(memory_format=torch.channels_last).eval()
    formats: list[bool] = []
    for layer in model.feature_layers().values():
        layer.register_forward_hook(
            lambda module, inputs, output: formats.append(
                output.is_contiguous(memory_format=torch.channels_last)
            )
        )
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(images.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(logits, model.to(memory_format=torch.contiguous_format)(images))
    assert all(formats[: len(formats) // 2])


def trained_state(
    model: nn.Module, images: Tensor, precision: torch.dtype, steps: int = 3
) -> dict[str, Tensor]:
    """Train for a few steps; return all logits, last gradients, weights and statistics."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    labels = torch.arange(len(images)) % 10
    state: dict[str, Tensor] = {}
    torch.manual_seed(7)  # the same dropout for every model
    for step in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
        state[f"logits {step}"] = logits.detach()
        loss.backward()
        optimizer.step()
    state |= {
        f"{name} gradient": p.grad for name, p in model.named_parameters() if p.grad is not None
    }
    return state | model.state_dict() | {"next random number": torch.rand(1)}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("attention", "normalisation"),
    [
        *((attention, "batch") for attention in ATTENTIONS),
        *(("none", normalisation) for normalisation in NORMALISATIONS if normalisation != "batch"),
    ],
)
@pytest.mark.parametrize("drop_rate", [0.0, 0.2])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_efficient_mode_changes_nothing_but_memory(
    precision: torch.dtype, drop_rate: float, attention: str, normalisation: str, training: bool
) -> None:
    settings = {
        **TINY_DENSENET,
        "drop_rate": drop_rate,
        "attention": attention,
        "normalisation": normalisation,
        "norm_groups": 2,
        "activation": "mish",
    }
    torch.manual_seed(6)
    plain = build(settings, 10, 16).train(training)
    efficient = build({**settings, "efficient": True}, 10, 16).train(training)
    efficient.load_state_dict(plain.state_dict())
    images = torch.randn(6, 3, 16, 16)
    expected = trained_state(plain, images, precision)
    result = trained_state(efficient, images, precision)
    assert result.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(result[name], tensor, rtol=0, atol=0, msg=name)
    if normalisation == "batch":
        steps = 3 if training else 0
        assert result["block1.layer1.norm1.num_batches_tracked"] == steps
        assert bool(result["block1.layer1.norm1.running_mean"].any()) is training
    assert all(module.training is training for module in efficient.modules())


def test_efficient_mode_stores_less_for_the_backward_pass() -> None:
    def stored(efficient: bool) -> int:
        model = build({**BC_40, "efficient": efficient}, 10, 32)
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(torch.randn(2, 3, 32, 32))
        assert logits.requires_grad
        return sum(sizes.values())

    assert stored(efficient=True) < 0.6 * stored(efficient=False)


def test_efficient_mode_survives_a_switch_to_eval_before_the_backward_pass() -> None:
    torch.manual_seed(8)
    plain = build(TINY_DENSENET, 10, 16)
    efficient = build({**TINY_DENSENET, "efficient": True}, 10, 16)
    efficient.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 16, 16)
    for model in (plain, efficient):
        loss = model(images).square().sum()
        model.eval()
        loss.backward()
    for ours, expected in zip(efficient.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=0, atol=0)
    assert not any(module.training for module in efficient.modules())


def test_dense_layer_drops_after_attention_and_only_in_training() -> None:
    torch.manual_seed(9)
    model = build({**TINY_DENSENET, **SE, "drop_rate": 0.5}, 10, 32)
    layer, attention = (model.get_submodule(f"block1.layer1{end}") for end in ("", ".attention"))
    features = [torch.randn(8, 8, 16, 16)]
    with record_outputs({"attention": attention}) as outputs:
        output = layer(features)
    dropped = output == 0
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(output[~dropped], 2 * outputs["attention"][~dropped])
    assert not (layer.eval()(features) == 0).any()
