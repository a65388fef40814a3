"""Costs: published multiply-accumulates, closed forms, and a measurement that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.evaluation import cost
from pipeline.models.registry import build

CPU = torch.device("cpu")
BC_100 = {"family": "densenet", "growth_rate": 12, "block_config": [16, 16, 16]}


class Clock:
    """A clock that stands still but where it is set on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which the cost is measured."""
    made = Clock()
    monkeypatch.setattr(cost, "time", made)
    return made


class Delay(nn.Module):
    """Takes a known time, and remembers how it was called."""

    def __init__(self, clock: Clock, milliseconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.milliseconds = milliseconds
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_inference_mode_enabled()))
        self.clock.seconds += self.milliseconds / 1000
        return images


def test_densenet_bc_100_12_has_the_published_cost() -> None:
    model = build(BC_100, 10, 32)
    assert cost.parameters(model) == 769_162
    assert cost.macs(model, 32) == 287_929_692


def test_macs_of_the_cnn_are_its_closed_form() -> None:
    convolutions = 9 * (3 * 32 * 32**2 + 32 * 64 * 16**2 + 64 * 128 * 8**2)
    linears = 2048 * 512 + 512 * 10
    assert cost.macs(build({"family": "cnn"}, 10, 32), 32, 3) == convolutions + linears


def test_macs_include_the_linears_of_channel_attention() -> None:
    plain = build({"family": "cnn"}, 10, 32)
    attentive = build({"family": "cnn", "attention": "channel", "reduction": 16}, 10, 32)
    extra = 2 * (32 * 2 + 64 * 4 + 128 * 8)
    assert cost.macs(attentive, 32) - cost.macs(plain, 32) == extra
    assert cost.parameters(attentive) - cost.parameters(plain) == extra
    squeezed = build({**BC_100, "attention": "channel", "reduction": 16}, 10, 32)
    assert cost.macs(squeezed, 32) == 287_929_692 + 48 * 2 * 12


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "cnn", "kernel_size": 5, "attention": "channel"},
        {"family": "cnn", "attention": "eca", "attention_at": [1, 3]},
        {"family": "densenet", "attention": "coordinate", "attention_at": "blocks"},
        {"family": "densenet", "block_config": [2, 3], "small_inputs": False},
        {"family": "densenet", "block_config": [2, 3], "attention": "channel", "efficient": True},
    ],
)
def test_macs_are_half_of_pytorchs_count_of_floating_point_operations(
    settings: dict[str, object],
) -> None:
    model = build(settings, 7, 40, 3).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 40, 40))
    assert cost.macs(model, 40) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "cnn", "attention": "cbam", "pooling": "strided_conv", "groups": 4},
        {"family": "cnn", "attention": "spatial", "pooling": "dilated_conv", "stride": 2},
        {"family": "cnn", "normalisation": "group", "head": "global_average", "dilation": 2},
        {"family": "cnn", "attention": "self_attention"},
        {"family": "torchvision", "name": "mobilenet_v3_small", "small_inputs": True},
        {"family": "torchvision", "name": "vit_b_32", "small_inputs": False},
        {"family": "torchvision", "name": "swin_t", "small_inputs": False},
        {"family": "timm", "name": "seresnet18", "small_inputs": True},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_macs_of_weights_are_half_of_pytorchs_count(settings: dict[str, object]) -> None:
    model = build(settings, 7, 32, 3).eval()
    images = torch.zeros(1, 3, 32, 32)
    # with gradients: without, PyTorch counts no transformer that it has a fused kernel for
    with FlopCounterMode(display=False) as counter:
        model(images)
    operations = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten
    weighted = (aten.convolution, aten.mm, aten.addmm)
    assert cost.macs(model, 32) == sum(operations.get(name, 0) for name in weighted) // 2


def test_macs_of_self_attention_are_its_four_linears_at_every_position() -> None:
    settings = {"family": "cnn", "channels": [8, 16], "hidden": 4}
    plain = build(settings, 10, 16)
    attentive = build({**settings, "attention": "self_attention"}, 10, 16)
    extra = 4 * (8**2 * 16**2 + 16**2 * 8**2)
    assert cost.macs(attentive, 16) - cost.macs(plain, 16) == extra


def test_macs_follow_image_size_and_channels() -> None:
    model = build({"family": "cnn", "channels": [8], "hidden": 4}, 10, 28, in_channels=1)
    assert cost.macs(model, 28, 1) == 9 * 8 * 28**2 + 8 * 14**2 * 4 + 4 * 10


@pytest.mark.parametrize("efficient", [False, True])
def test_measuring_leaves_the_model_as_it_was(efficient: bool) -> None:
    settings = {"family": "densenet", "block_config": [2, 2], "efficient": efficient}
    model = build(settings, 10, 16).train()
    frozen = model.get_submodule("block1.layer1").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    cost.macs(model, 16)
    cost.latency(model, torch.zeros(1, 3, 16, 16), repeats=1)
    cost.throughput(model, torch.zeros(4, 3, 16, 16))
    assert torch.equal(torch.rand(1), expected)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    modes = {module: module.training for module in model.modules()}
    assert not any(modes[module] for module in frozen.modules())
    assert modes[model]
    assert modes[model.get_submodule("block1.layer2")]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_model_is_restored_when_the_measurement_fails() -> None:
    model = build({"family": "cnn"}, 10, 32).train()
    with pytest.raises(RuntimeError):
        cost.macs(model, 31, 5)
    assert all(module.training for module in model.modules())


def test_latency_is_in_milliseconds_per_run(clock: Clock) -> None:
    delay = Delay(clock, milliseconds=5)
    times = cost.latency(delay, torch.zeros(1, 3, 8, 8), repeats=4)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, [5.0] * 4)
    assert delay.modes == [(False, True)] * (cost.WARM_UP_IMAGES + 4)


def test_throughput_is_in_images_per_second(clock: Clock) -> None:
    delay = Delay(clock, milliseconds=10)
    rate = cost.throughput(delay, torch.zeros(16, 3, 8, 8))
    assert rate == pytest.approx(1600)
    assert delay.modes == [(False, True)]


def test_training_throughput_is_that_of_all_steps_together(clock: Clock) -> None:
    def steps() -> Iterator[int]:
        for milliseconds, images in ((10, 64), (10, 64), (5, 22)):
            clock.seconds += milliseconds / 1000
            yield images

    assert cost.training_throughput(steps(), CPU) == pytest.approx(150 / 0.025)


def test_all_take_turns_to_and_fro() -> None:
    turns: list[str] = []
    measures = {name: partial(turns.append, name) for name in "abc"}
    found = cost.in_turns(measures, range(3))
    assert "".join(turns) == "abccbaabc"
    assert found == {name: [None] * 3 for name in "abc"}


def test_memory_of_inference_is_the_weights_and_two_neighbouring_maps() -> None:
    def classify() -> nn.Module:
        widths = (16, 16, 32, 8)
        layers = [
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(widths)
        ]
        network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            network(images)
        return network

    images = torch.zeros(64, 16, 32, 32).to(memory_format=torch.channels_last)
    weights = 9 * (16 * 16 + 16 * 32 + 32 * 8)
    maps = 64 * 32 * 32 * (16 + 32)  # what the second layer gets and gives
    assert cost.peak_memory(classify, CPU) == pytest.approx(4 * (weights + maps), rel=0.1)


def test_memory_of_training_is_weights_gradients_moments_and_all_maps() -> None:
    def learn() -> None:
        network = nn.Sequential(*[nn.Linear(400, 400, bias=False) for _ in range(4)])
        optimizer = torch.optim.Adam(network.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            network(inputs).sum().backward()
            optimizer.step()

    inputs = torch.zeros(2000, 400)
    weights = 4 * 400**2
    # behind: the gradient of what a layer gives, and of what it gets
    maps = 2000 * 400 * (4 + 1)
    # in the first step the moments come after the maps have gone; in the second they are there, but
    # the gradients are made as the maps go
    expected = 4 * (3 * weights + maps)
    assert cost.peak_memory(learn, CPU) == pytest.approx(expected, rel=0.1)


def test_memory_that_was_there_before_does_not_count() -> None:
    kept = [torch.zeros(1_000_000)]

    def work() -> None:
        torch.zeros(1000)
        kept.clear()
        torch.zeros(2000)

    assert cost.peak_memory(work, CPU) == 4 * 2000
