"""Whether answers depend on what attention sees: networks of which it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.evaluation.interventions import intervene, replaced, weights_over
from pipeline.models.attention import Attention, SelfAttention, StaticAttention
from pipeline.models.inspection import record_weights
from pipeline.models.registry import build
from pipeline.settings import presets
from pipeline.training.compute import Hardware

CPU = Hardware(torch.device("cpu"), "fp32", 1, "a CPU")
LOOKING = ("channel", "spatial", "cbam", "eca", "coordinate", "simam", "self_attention")
KINDS = ("static", *LOOKING)
IMAGES = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(40, dtype=torch.int64)


def batches(size: int = 20) -> list[tuple[Tensor, Tensor]]:
    return list(zip(IMAGES.split(size), LABELS.split(size), strict=True))


def network(attention: str, family: str = "cnn") -> nn.Module:
    torch.manual_seed(3)
    settings = presets.load("digits").architectures["cnn" if family == "cnn" else "densenet"]
    return build(settings.model_dump() | {"attention": attention}, 10, 16, 3).eval()


def answers(built: nn.Module) -> dict[str, np.ndarray]:
    modules = built.attention_layers()
    seen = weights_over(built, modules, batches(), CPU)
    means = {name: spread.mean for name, spread in seen.items()}
    return intervene(built, modules, means, batches(), CPU, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["cnn", "densenet"])
@pytest.mark.parametrize("attention", KINDS)
def test_intact_logits_are_the_networks(attention: str, family: str) -> None:
    built = network(attention, family)
    with torch.inference_mode():
        expected = torch.cat([built(inputs) for inputs, _ in batches()]).numpy()
    found = answers(built)
    assert np.array_equal(found["intact"], expected)
    with torch.inference_mode():  # no hook is left
        again = torch.cat([built(inputs) for inputs, _ in batches()]).numpy()
    assert np.array_equal(again, expected)


@pytest.mark.parametrize("family", ["cnn", "densenet"])
def test_static_attention_changes_nothing_when_frozen_or_shuffled(family: str) -> None:
    built = network("static", family)
    for module in built.attention_layers().values():
        nn.init.normal_(module.gate)
    found = answers(built)
    assert np.allclose(found["frozen"], found["intact"], rtol=0, atol=1e-5)
    assert np.array_equal(found["shuffled"], found["intact"])


@pytest.mark.parametrize("family", ["cnn", "densenet"])
@pytest.mark.parametrize("attention", LOOKING)
def test_other_attention_changes_the_logits(attention: str, family: str) -> None:
    built = network(attention, family)
    with torch.no_grad():
        for module in built.attention_layers().values():
            for parameter in module.parameters():
                parameter.mul_(5)  # untrained attention hardly varies
    found = answers(built)
    assert np.abs(found["frozen"] - found["intact"]).max() > 1e-4
    assert np.abs(found["shuffled"] - found["intact"]).max() > 1e-4


@pytest.mark.parametrize(
    ("family", "name"), [("torchvision", "mobilenet_v3_small"), ("timm", "seresnet18")]
)
def test_gates_of_libraries_are_frozen_and_shuffled_too(family: str, name: str) -> None:
    torch.manual_seed(0)
    entry = {"family": family, "name": name, "small_inputs": True}
    built = build(entry, 10, 16, 3).eval()
    for layer in built.modules():  # untrained, their branches are switched off or hardly vary
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    modules = built.attention_layers()
    assert len(modules) >= 8
    found = answers(built)
    for done in ("frozen", "shuffled"):
        assert found[done].shape == (40, 10)
        assert np.abs(found[done] - found["intact"]).max() > 1e-4
    with torch.inference_mode(), record_weights(modules) as weights:
        logits = built(IMAGES[:1])
        with replaced(modules, dict(weights)):  # one's own weights change nothing
            assert torch.allclose(built(IMAGES[:1]), logits, atol=1e-6)


def test_frozen_channel_attention_is_the_network_with_the_mean_as_a_constant() -> None:
    built = network("channel")
    found = answers(built)
    means: dict[str, list[Tensor]] = {}
    x = IMAGES
    with torch.inference_mode():  # block by block, by hand: every module sees its intact inputs
        for name in built.blocks:
            block = getattr(built, name)
            x = block.activation(block.norm(block.conv(x)))
            hidden = F.relu(F.linear(x.mean((2, 3)), block.attention.squeeze.weight))
            gate = torch.sigmoid(F.linear(hidden, block.attention.excite.weight))
            means[name] = gate.mean(0)
            x = block.pool(x * gate[:, :, None, None])
        x = IMAGES
        for name in built.blocks:
            block = getattr(built, name)
            x = block.activation(block.norm(block.conv(x)))
            x = block.pool(x * means[name][None, :, None, None])
        expected = built.classifier(built.activation(built.hidden(x.flatten(1)))).numpy()
    assert np.allclose(found["frozen"], expected, atol=1e-5)


def test_frozen_self_attention_attends_to_all_positions_alike() -> None:
    """By PyTorch's own attention, with a mask that makes every score the same."""
    torch.manual_seed(0)
    module, x = SelfAttention(8, 2), torch.randn(3, 8, 4, 5)
    with torch.no_grad():
        module.qkv.weight[:8] = 0  # queries of nothing: scores of 0 for all
        module.qkv.bias[:8] = 0
        assert torch.allclose(module.reweighted(x, torch.empty(0)), module(x), atol=1e-5)


class Deciding(nn.Module):
    """The class is which channel its attention opens: that of the larger mean."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x).abs().mean((2, 3))[:, :2]


class Gate(Attention):
    kind = "channel"

    def weights(self, x: Tensor) -> Tensor:
        return F.one_hot(x.mean((2, 3))[:, :2].argmax(1), x.shape[1]).float()

    def reweighted(self, x: Tensor, weights: Tensor) -> Tensor:
        return x * weights[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.reweighted(x, self.weights(x))


def test_answers_that_attention_decides_follow_the_image_whose_weights_they_get() -> None:
    built = Deciding()
    modules = {"attention": built.attention}
    seen = weights_over(built, modules, batches(), CPU)
    means = {name: spread.mean for name, spread in seen.items()}
    found = intervene(built, modules, means, batches(), CPU, torch.Generator().manual_seed(1))
    intact = found["intact"].argmax(1)
    changed = (found["shuffled"].argmax(1) != intact).mean()
    share = intact.mean()
    assert share == pytest.approx(0.5, abs=0.2)
    assert changed == pytest.approx(2 * share * (1 - share), abs=0.2)  # as of two random images


def test_every_image_gets_the_weights_of_another_and_each_gives_its_own_once() -> None:
    class Passing(Gate):
        def weights(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    module = Passing()
    built = nn.Sequential(module, nn.Flatten())
    constant = torch.arange(1.0, 41.0)[:, None, None, None].expand(40, 1, 2, 2)
    given = [(constant[:20], LABELS[:20]), (constant[20:], LABELS[20:])]
    found = intervene(
        built, {"it": module}, {"it": torch.ones(1, 1)}, given, CPU, torch.Generator()
    )
    own = np.arange(1, 41)
    assert np.allclose(found["intact"][:, 0], own**2)
    assert np.allclose(found["frozen"][:, 0], own)
    others = found["shuffled"][:, 0] / own
    assert not np.isclose(others, own).any()
    assert sorted(others.round()) == own.tolist()


def test_static_attention_learns_a_weight_for_each_channel() -> None:
    module = StaticAttention(4)
    x = torch.randn(2, 4, 3, 3)
    assert torch.allclose(module(x), x / 2)
    assert sum(parameter.numel() for parameter in module.parameters()) == 4
    module(x).square().sum().backward()
    assert module.gate.grad.abs().min() > 0


class Weighting(Gate):
    """Gives each channel of an image its constant, and `gain` times the image's mean."""

    def __init__(self, constant: list[float], gain: float) -> None:
        super().__init__()
        self.constant, self.gain = torch.tensor(constant), gain

    def weights(self, x: Tensor) -> Tensor:
        return self.constant + self.gain * x.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(
    ("constant", "gain", "state"),
    [
        ([0.5, 0.5, 0.5], 0.0, "dead"),
        ([0.5, 0.5, 0.5], 0.01, "dead"),  # less than bfloat16 resolves
        ([0.4, 0.5, 0.6], 0.01, "constant"),
        ([0.5, 0.5, 0.5], 1.0, "varies"),
        ([0.0, 0.0, 0.0], 0.0, "dead"),
    ],
)
def test_module_is_constant_where_no_image_moves_its_weights(
    constant: list[float], gain: float, state: str
) -> None:
    module = Weighting(constant, gain)
    built = nn.Sequential(module, nn.Flatten())
    seen = weights_over(built, {"it": module}, batches(), CPU)["it"]
    given = torch.cat([module.weights(inputs) for inputs, _ in batches()]).double().numpy()
    assert seen.mean.numpy()[0] == pytest.approx(given.mean(axis=0), abs=1e-6)
    assert seen.sd.numpy()[0] == pytest.approx(given.std(axis=0), abs=1e-6)
    assert seen.state == state
