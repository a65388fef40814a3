from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pipeline.models import registry
from pipeline.models.attention import ATTENTIONS
from pipeline.models.fuse import fused
from pipeline.models.layers import ACTIVATIONS, NORMALISATIONS, Classifier
from pipeline.models.pooling import POOLINGS

SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [8, 12], "hidden": 8, "norm_groups": 4, "heads": 2},
    "densenet": {
        "block_config": [2, 2],
        "growth_rate": 4,
        "num_init_features": 8,
        "norm_groups": 2,
        "heads": 2,
    },
}
EVERY = [
    *product(SMALL, ["attention"], ATTENTIONS),
    ("cnn", "attention_at", [2]),
    ("densenet", "attention_at", "transitions"),
    ("densenet", "attention_at", "blocks"),
    *product(SMALL, ["activation"], ACTIVATIONS),
    *product(SMALL, ["normalisation"], NORMALISATIONS),
    *product(["cnn"], ["pooling"], POOLINGS),
    *product(["cnn"], ["head"], ["flatten", "global_average"]),
    ("densenet", "small_inputs", False),
    ("densenet", "efficient", True),
    ("densenet", "drop_rate", 0.2),
]


def used(settings: dict[str, Any], size: int) -> Classifier:
    """A network whose batch norms have seen images, so that folding them changes weights."""
    torch.manual_seed(0)
    network = registry.build(settings, 3, size, 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # some turn their maps upside down
            nn.init.normal_(module.bias)
    for _ in range(3):
        network(3 * torch.randn(8, 3, size, size) + 1)
    return network.eval()


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("family", "key", "value"), EVERY)
def test_folded_network_gives_the_same_logits(family: str, key: str, value: Any) -> None:
    size = 32 if key == "small_inputs" else 16
    attention = {"attention": "channel"} if key != "attention" else {}
    network = used({"family": family, **SMALL[family], **attention, key: value}, size)
    images = torch.randn(4, 3, size, size)
    with torch.inference_mode():
        expected = network(images).clone()
        found = fused(network)(images)
        again = network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)  # the network is as it was


def test_only_the_batch_norm_beside_no_convolution_is_left() -> None:
    cnn = used({"family": "cnn", **SMALL["cnn"]}, 16)
    assert (batch_norms(cnn), batch_norms(fused(cnn))) == (2, 0)
    densenet = used({"family": "densenet", **SMALL["densenet"]}, 16)
    # two of each of 4 layers, one of the transition, and one before the means that are classified
    assert (batch_norms(densenet), batch_norms(fused(densenet))) == (10, 1)


def test_batch_norm_that_ignores_a_channel_stays_before_the_convolution() -> None:
    densenet = used({"family": "densenet", **SMALL["densenet"]}, 16)
    with torch.no_grad():
        densenet.get_submodule("block1.layer2.norm1").weight[3] = 0
    images = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(fused(densenet)(images), densenet(images), rtol=1e-4, atol=1e-5)
    assert batch_norms(fused(densenet)) == 2


def test_network_of_a_library_is_left_alone() -> None:
    network = used({"family": "torchvision", "name": "resnet18", "small_inputs": True}, 16)
    assert fused(network) is network


class Pointwise(Classifier):
    """A family of one's own: a norm, ReLU and a convolution of one pixel."""

    foldable = True

    def __init__(self, norm: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.norm, self.activation, self.conv = norm, nn.ReLU(), conv

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(self.activation(self.norm(images)))


def seen(norm: nn.BatchNorm2d, mean: float = 0.3, variance: float = 2.0) -> nn.BatchNorm2d:
    if norm.running_mean is not None and norm.running_var is not None:
        nn.init.constant_(norm.running_mean, mean)
        nn.init.constant_(norm.running_var, variance)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize(
    ("norm", "conv", "is_folded"),
    [
        (lambda: seen(nn.BatchNorm2d(4)), lambda: nn.Conv2d(4, 6, 1), True),
        (lambda: seen(nn.BatchNorm2d(4)), lambda: nn.Conv2d(4, 6, 1, bias=False, stride=2), True),
        (lambda: seen(nn.BatchNorm2d(4)), lambda: nn.Conv2d(4, 6, 1, padding=1), False),
        (lambda: seen(nn.BatchNorm2d(4)), lambda: nn.Conv2d(4, 6, 1, groups=2), False),
        (lambda: seen(nn.BatchNorm2d(4)), lambda: nn.Conv2d(4, 6, 3), False),
        (lambda: seen(nn.BatchNorm2d(4)), lambda: spectral_norm(nn.Conv2d(4, 6, 1)), False),
        (lambda: seen(nn.BatchNorm2d(4, affine=False)), lambda: nn.Conv2d(4, 6, 1), False),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), lambda: nn.Conv2d(4, 6, 1), False),
        (lambda: seen(nn.BatchNorm2d(4), mean=1e4, variance=0), lambda: nn.Conv2d(4, 6, 1), False),
    ],
)
def test_norm_is_folded_forwards_only_where_that_is_right(
    norm: Any, conv: Any, is_folded: bool
) -> None:
    torch.manual_seed(0)
    network, images = Pointwise(norm(), conv()).eval(), torch.randn(2, 4, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(fused(network)(images), network(images), rtol=1e-5, atol=1e-5)
    assert batch_norms(fused(network)) == (0 if is_folded else 1)


class Residual(Classifier):
    """A family of one's own, whose sum reads what its activation got."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return images + self.activation(images)


def test_family_that_does_not_say_that_it_can_be_folded_is_left_alone() -> None:
    network, images = Residual().eval(), -torch.ones(1, 3, 2, 2)
    assert (fused(network)(images) == -1).all()
