"""`looks_at_image` of networks of which the truth is known: built, or fitted around a planted gate.

Their images have noise and a weak sign of the class: the networks are right in 60 to 100 %. What
they answer with other weights goes through the evaluation's own interventions.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.evaluation.interventions import intervene, weights_over
from pipeline.models.attention import ChannelAttention, StaticAttention
from pipeline.statistics.looking import intervention, looking
from pipeline.training.compute import Hardware

CPU = Hardware(torch.device("cpu"), "fp32", 1, "a CPU")
NETWORKS = 100
RUNS, CHANNELS, SIDE = 5, 6, 4
FITTED, TESTED = 2_000, 2_000
MARGIN = 0.5


class Planted(nn.Module):
    """An attention module on the images themselves, and a linear layer on what `pooled` gives."""

    def __init__(self, attention: nn.Module, head: nn.Linear, signed: bool) -> None:
        super().__init__()
        self.attention, self.head, self.signed = attention, head, signed

    def pooled(self, x: Tensor) -> Tensor:
        """Return means over positions (B, C): of absolute values where signs must not be seen."""
        given = self.attention(x)
        return (given if self.signed else given.abs()).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pooled(x))


def images(count: int, shift: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images (B, C, 4, 4), and labels: 1 where the first half of the channels is higher."""
    labels = torch.randint(2, (count,), generator=generator)
    noise = torch.randn(count, CHANNELS, SIDE, SIDE, generator=generator)
    sign = torch.where(torch.arange(CHANNELS) < CHANNELS // 2, 1.0, -1.0)
    return noise + shift * (2.0 * labels[:, None] - 1)[:, :, None, None] * sign[
        :, None, None
    ], labels


def deciding(draws: np.random.Generator) -> nn.Module:
    """Attention that finds the half of the channels that is higher, and lets that pass."""
    module = ChannelAttention(CHANNELS, reduction=CHANNELS // 2)  # two hidden units
    sign = torch.where(torch.arange(CHANNELS) < CHANNELS // 2, 1.0, -1.0)
    with torch.no_grad():
        steepness = float(draws.uniform(2, 8))
        module.squeeze.weight.copy_(torch.stack([sign, -sign]) * steepness)
        module.excite.weight.copy_(torch.stack([sign, -sign], 1) * steepness)
    return module


def frozen(draws: np.random.Generator) -> nn.Module:
    """Attention that gives every image the same weights: a placebo, or one whose units are dead."""
    if draws.random() < 0.5:
        module = StaticAttention(CHANNELS)
        nn.init.normal_(module.gate, std=2.0)
        return module
    module = ChannelAttention(CHANNELS, reduction=CHANNELS // 2)
    nn.init.zeros_(module.squeeze.weight)  # its units stay 0 whatever the image
    return module


def random(draws: np.random.Generator) -> nn.Module:
    """Attention as it is initialised: its weights follow the image by a little, and aimlessly."""
    return ChannelAttention(CHANNELS, reduction=CHANNELS // 2)


def fitted(attention: nn.Module, signed: bool, x: Tensor, labels: Tensor) -> Planted:
    """Return a network around `attention` whose linear layer is fitted by least squares."""
    network = Planted(attention, nn.Linear(CHANNELS, 2), signed).eval()
    with torch.no_grad():
        pooled = torch.cat([network.pooled(x), torch.ones(len(x), 1)], 1)
        found = torch.linalg.lstsq(pooled, nn.functional.one_hot(labels, 2).float()).solution
        network.head.weight.copy_(found[:-1].T)
        network.head.bias.copy_(found[-1])
    return network


def looks(kind: str, number: int) -> tuple[str, float]:
    """Return what is said of five such networks, and their accuracy."""
    draws = np.random.default_rng((number, len(kind)))
    generator = torch.Generator().manual_seed(number)
    torch.manual_seed(number)
    make = {"deciding": deciding, "frozen": frozen, "random": random}[kind]
    shift = float(draws.uniform(0.05, 0.3))
    tested, labels = images(TESTED, shift, generator)
    answers: dict[str, list[np.ndarray]] = {"intact": [], "frozen": [], "shuffled": []}
    for _ in range(RUNS):
        network = fitted(make(draws), kind != "deciding", *images(FITTED, shift, generator))
        modules = {"attention": network.attention}
        seen = weights_over(network, modules, [images(FITTED, shift, generator)], CPU)
        means = {name: spread.mean for name, spread in seen.items()}
        batches = list(zip(tested.split(500), labels.split(500), strict=True))
        for name, logits in intervene(network, modules, means, batches, CPU, generator).items():
            answers[name].append(logits.argmax(axis=1))
    truth = [labels.numpy()] * RUNS
    lost = (
        intervention(answers["intact"], answers[name], truth, True)
        for name in ("frozen", "shuffled")
    )
    return looking(*lost, MARGIN).looks, float((np.stack(answers["intact"]) == truth).mean())


def test_of_a_hundred_networks_it_is_said_whether_their_attention_looks_at_the_image() -> None:
    expected = {"deciding": "yes", "frozen": "no", "random": "no"}
    found: dict[str, Counter[str]] = {kind: Counter() for kind in expected}
    accuracies = []
    for number in range(NETWORKS):
        kind = list(expected)[number % len(expected)]
        said, accuracy = looks(kind, number)
        found[kind][said] += 1
        accuracies.append(accuracy)
    assert 0.55 < min(accuracies) < 0.75
    assert max(accuracies) > 0.95
    assert found["frozen"]["yes"] == 0
    assert sum(found[kind][expected[kind]] for kind in expected) >= 95, found
