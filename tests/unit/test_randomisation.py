from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from pipeline.explain.cam import cam_layers
from pipeline.explain.randomisation import (
    draw_randomisation,
    randomisation,
    randomisation_table,
    randomised_states,
    rank_correlations,
    weighted_layers,
)
from pipeline.explain.tested_heatmaps import network_heatmaps
from pipeline.models import registry
from pipeline.models.layers import Classifier

LEVELS = ["last layer", "deeper half", "all layers"]


def network(seed: int, **settings: Any) -> Classifier:
    settings = {"family": "cnn", "channels": [4, 6, 8], "hidden": 16, "reduction": 2} | settings
    torch.manual_seed(seed)
    return registry.build(settings, 3, 16, 1).eval()


def batches() -> list[tuple[Tensor, None]]:
    drawn = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    return [(drawn[:4], None), (drawn[4:], None)]


# the correlation


def test_correlations_are_spearmans_with_ties():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 4, (20, 3, 5)).astype(np.float32)
    second = generator.integers(0, 6, (20, 3, 5)).astype(np.float32)
    pairs = zip(first.reshape(20, -1), second.reshape(20, -1), strict=True)
    expected = [spearmanr(one, other).statistic for one, other in pairs]
    np.testing.assert_allclose(rank_correlations(first, second), expected, atol=1e-12)


def test_a_map_with_one_value_has_no_correlation():
    maps = np.random.default_rng(0).random((2, 3, 3))
    constant = maps.copy()
    constant[1] = 0
    assert np.isnan(rank_correlations(maps, constant)).tolist() == [False, True]


# what is randomised


def test_layers_are_ordered_as_they_run_whatever_their_order_in_the_code():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 2)
            self.between = nn.Tanh()
            self.first = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.between(self.first(x)))

    module = Backwards()
    assert weighted_layers(module, torch.zeros(1, 3)) == ["first", "last"]
    assert not module.first._forward_pre_hooks


@pytest.mark.parametrize(
    "settings",
    [
        {
            "family": "cnn",
            "channels": [4, 6],
            "hidden": 8,
            "attention": "self_attention",
            "heads": 2,
        },
        {"family": "densenet", "block_config": [2, 2], "growth_rate": 4, "num_init_features": 4},
        {"family": "torchvision", "name": "resnet18", "small_inputs": True},
        {"family": "torchvision", "name": "vit_b_16", "small_inputs": False},
    ],
    ids=lambda settings: settings.get("name", settings["family"]),
)
def test_weights_are_replaced_from_the_output_down(settings: dict[str, Any]):
    size = 32
    with torch.device("meta"):  # names alone, nothing is computed
        built = registry.build(settings, 3, size, 3).eval()
        layers = weighted_layers(built, torch.zeros(1, 3, size, size))
    old = {name: torch.zeros(()) for name in built.state_dict()}
    new = {name: torch.ones(()) for name in old}
    states = randomised_states(old, new, layers)
    assert list(states) == LEVELS
    replaced = {what: {n for n in old if state[n] == 1} for what, state in states.items()}

    head = layers[-1]
    assert replaced["last layer"] == {f"{head}.weight", f"{head}.bias"}
    assert built.get_submodule(head).weight.shape[0] == 3  # it gives the three classes
    assert replaced["last layer"] < replaced["deeper half"] < replaced["all layers"] == set(old)
    assert not {name for name in replaced["deeper half"] if name.rpartition(".")[0] == layers[0]}


@pytest.mark.parametrize(("layers", "expected"), [("abcd", "cd"), ("abcde", "cde"), ("ab", "b")])
def test_deeper_half_is_half_of_the_layers_or_with_the_middle_one(layers: str, expected: str):
    old = {f"{layer}.weight": torch.zeros(()) for layer in layers}
    new = {name: torch.ones(()) for name in old}
    state = randomised_states(old, new, list(layers))["deeper half"]
    assert [layer for layer in layers if state[f"{layer}.weight"] == 1] == list(expected)


def test_parameters_that_another_module_uses_go_with_it():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(4, 4)
            self.attention = nn.MultiheadAttention(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x)
            return self.attention(x, x, x)[0]

    block = Block()
    layers = weighted_layers(block, torch.zeros(1, 3, 4))
    assert layers == ["before", "attention"]  # which multiplies by its out_proj's weights itself
    old = {name: torch.zeros(()) for name in block.state_dict()}
    state = randomised_states(old, {name: torch.ones(()) for name in old}, layers)["last layer"]
    assert {name.partition(".")[0] for name in old if state[name] == 1} == {"attention"}
    assert {name.partition(".")[0] for name in old if state[name] == 0} == {"before"}


def test_a_layers_statistics_go_with_its_weights():
    names = ("norm.weight", "norm.running_mean", "a.weight")
    old = {name: torch.zeros(1) for name in names}
    new = {name: torch.ones(1) for name in old}
    state = randomised_states(old, new, ["a", "norm"])["last layer"]
    assert {name: int(tensor) for name, tensor in state.items()} == {
        "norm.weight": 1,
        "norm.running_mean": 1,
        "a.weight": 0,
    }


# the check


def test_heatmaps_are_compared_with_those_of_the_random_weights():
    trained, fresh = network(0, attention="channel"), network(1, attention="channel")
    inputs = torch.cat([inputs for inputs, _ in batches()])
    layers = cam_layers(trained, inputs)
    targets = trained(inputs).argmax(1)
    before = network_heatmaps(trained, layers, inputs, targets)
    after = network_heatmaps(fresh, layers, inputs, targets)
    weights = {name: tensor.clone() for name, tensor in trained.state_dict().items()}

    found = randomisation(trained, [fresh], layers, batches)
    assert list(found) == LEVELS
    for kind in ("grad_cam", "layer_cam", "strongest_channel"):
        expected = rank_correlations(before[kind], after[kind])
        np.testing.assert_allclose(found["all layers"][kind], [expected], atol=1e-6)
    # the strongest channel lies before the head, so the head can't change it
    np.testing.assert_allclose(found["last layer"]["strongest_channel"], 1)
    assert (found["last layer"]["layer_cam"] < 0.99).all()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_each_random_network_has_a_row_of_correlations():
    trained = network(0)
    layers = cam_layers(trained, batches()[0][0])
    together = randomisation(trained, (network(seed) for seed in (1, 2)), layers, batches)
    for row, seed in enumerate((1, 2)):
        alone = randomisation(trained, [network(seed)], layers, batches)
        for what, kinds in alone.items():
            for kind, values in kinds.items():
                assert together[what][kind].shape == (2, 6)
                np.testing.assert_allclose(together[what][kind][row], values[0], atol=1e-6)


def test_heatmaps_of_the_same_weights_correlate_fully():
    trained, same = network(0), network(0)
    inputs, _ = batches()[0]
    layers = cam_layers(trained, inputs)
    for kinds in randomisation(trained, [same], layers, batches).values():
        for values in kinds.values():
            assert values[np.isfinite(values)] == pytest.approx(1)


def test_table_counts_the_maps_that_have_a_correlation_and_names_the_extreme_networks():
    correlations = {
        "last layer": {"grad_cam": np.array([[0.2, np.nan, 0.6], [0.1, 0.3, 0.5]])},
        "all layers": {"grad_cam": np.array([[0.1, 0.2, 0.3], [np.nan] * 3])},
        "nothing left": {"grad_cam": np.full((2, 3), np.nan)},
    }
    table = randomisation_table(correlations)
    columns = ["heatmap", "randomised", "rank_correlation", "low", "high", "least", "greatest"]
    assert list(table.columns) == [*columns, "networks", "images", "maps"]
    assert table["randomised"].tolist() == list(correlations)
    assert table["maps"].tolist() == [5, 3, 0]
    assert (table["networks"] == 2).all()
    assert (table["images"] == 3).all()
    assert table["rank_correlation"].tolist()[:2] == pytest.approx([0.34, 0.2])
    assert table.loc[0, ["least", "greatest"]].tolist() == pytest.approx([0.3, 0.4])
    assert table.loc[1, ["least", "greatest"]].tolist() == pytest.approx([0.2, 0.2])
    # of a single network nothing says how far another one would lie
    assert table.loc[1:, ["low", "high"]].isna().all(axis=None)
    assert np.isnan(table.loc[2, "rank_correlation"])


def test_figure_begins_at_the_trained_network_and_shows_every_random_one():
    values = np.array([[-0.7, -0.8, -0.9], [-0.5, -0.6, -0.7]])
    correlations = {what: {"grad_cam": values} for what in LEVELS}
    (axes,) = draw_randomisation("title", correlations).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["nothing", *LEVELS]
    *single, mean, _ = axes.lines
    assert mean.get_ydata().tolist() == pytest.approx([1, -0.7, -0.7, -0.7])
    np.testing.assert_allclose([line.get_ydata() for line in single], [[-0.8, -0.6]] * 3)
    assert axes.get_ylim()[0] < -0.8
