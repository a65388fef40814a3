from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline import models
from pipeline.evaluation.folding import folded
from pipeline.models.attention import ATTENTIONS
from pipeline.models.layers import ACTIVATIONS, NORMALISATIONS
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
    *product(SMALL, ["activation"], ACTIVATIONS),
    *product(SMALL, ["normalisation"], NORMALISATIONS),
    *product(["cnn"], ["pooling"], POOLINGS),
    *product(["cnn"], ["head"], ["flatten", "global_average"]),
    ("densenet", "small_inputs", False),
    ("densenet", "efficient", True),
    ("densenet", "drop_rate", 0.2),
]


def used(settings: dict[str, Any], size: int) -> models.Classifier:
    """A network whose batch norms have seen images, so that folding them changes weights."""
    torch.manual_seed(0)
    network = models.build(settings, 3, size, 3)
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
        found = folded(network)(images)
        again = network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)  # the network is as it was


def test_only_the_batch_norm_beside_no_convolution_is_left() -> None:
    cnn = used({"family": "cnn", **SMALL["cnn"]}, 16)
    assert (batch_norms(cnn), batch_norms(folded(cnn))) == (2, 0)
    densenet = used({"family": "densenet", **SMALL["densenet"]}, 16)
    # two of each of 4 layers, one of the transition, and one before the means that are classified
    assert (batch_norms(densenet), batch_norms(folded(densenet))) == (10, 1)


def test_batch_norm_that_ignores_a_channel_stays_before_the_convolution() -> None:
    densenet = used({"family": "densenet", **SMALL["densenet"]}, 16)
    with torch.no_grad():
        densenet.get_submodule("block1.layer2.norm1").weight[3] = 0
    images = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(folded(densenet)(images), densenet(images), rtol=1e-4, atol=1e-5)
    assert batch_norms(folded(densenet)) == 2


def test_network_of_a_library_is_left_alone() -> None:
    network = used({"family": "torchvision", "name": "resnet18", "small_inputs": True}, 16)
    assert folded(network) is network


class Residual(models.Classifier):
    """A family of one's own, whose sum reads what its activation got."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return images + self.activation(images)


def test_family_that_does_not_say_that_it_can_be_folded_is_left_alone() -> None:
    network, images = Residual().eval(), -torch.ones(1, 3, 2, 2)
    assert (folded(network)(images) == -1).all()
