from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.data import arrays
from pipeline.engines.unchanged import made_from
from pipeline.explain.cam import class_activation_maps
from pipeline.explain.choice import any_images, choose_images, spread
from pipeline.explain.feature_maps import feature_maps
from pipeline.explain.strongest_channels import heatmap, strongest_channel_maps, strongest_channels
from pipeline.models import registry
from pipeline.models.inspection import record_outputs
from pipeline.settings import load, presets, schema
from pipeline.stages import explain
from pipeline.storage import records
from pipeline.training.weights import save_weights
from tests.unit.made_records import made_splits

CLASSES = ["cat", "$dog", "a|b"]
ROOT = Path(__file__).parents[2]


def network(attention: str = "channel", family: str = "cnn") -> nn.Module:
    settings: dict[str, Any] = {"family": family, "attention": attention, "reduction": 4}
    if family == "cnn":
        settings |= {"channels": [4, 6, 8], "hidden": 8}
    else:
        settings |= {"block_config": [2, 2, 2], "growth_rate": 4, "num_init_features": 4}
    torch.manual_seed(0)
    return registry.build(settings, 3, 8, 1).eval()


# the choice of images


def test_images_are_of_different_classes_and_always_the_same():
    labels = np.repeat([0, 1, 2, 3, 4], 20)
    chosen = choose_images(labels, 3, seed=0)
    assert len(set(labels[chosen])) == 3
    assert list(chosen) == list(choose_images(labels, 3, seed=0))
    others = {tuple(choose_images(labels, 3, seed=seed)) for seed in range(10)}
    assert len(others) > 1


def test_images_repeat_classes_only_when_none_is_left():
    labels = np.array([0, 0, 0, 1, 2, 2])
    chosen = choose_images(labels, 5, seed=0)
    assert len(set(chosen)) == 5
    assert sorted(np.bincount(labels[chosen])) == [1, 2, 2]
    assert len(choose_images(labels, 50, seed=0)) == 6


def test_any_images_are_drawn_without_regard_to_their_class():
    chosen = any_images(1000, 100, seed=0)
    assert len(set(chosen)) == 100
    assert chosen.tolist() == sorted(chosen)
    assert chosen.tolist() == any_images(1000, 100, seed=0).tolist()
    assert chosen.tolist() != any_images(1000, 100, seed=1).tolist()
    assert any_images(5, 100, seed=0).tolist() == [0, 1, 2, 3, 4]
    drawn = np.concatenate([any_images(10, 3, seed) for seed in range(2000)])
    # 2000 draws of 3 of 10: each comes 600 times, give or take 4 times their std of 20.5
    np.testing.assert_allclose(np.bincount(drawn, minlength=10), 600, atol=82)


# feature maps


def test_maps_are_the_outputs_of_the_layers_and_the_hooks_come_off():
    model = network()
    layers = model.feature_layers()
    inputs = torch.randn(2, 1, 8, 8)
    maps, logits = feature_maps(model, layers, inputs)
    with torch.no_grad():
        np.testing.assert_allclose(maps["conv1"], model.block1.conv(inputs).numpy(), atol=1e-6)
        np.testing.assert_allclose(logits, model(inputs).numpy(), atol=1e-6)
    assert maps["conv3"].shape == (2, 8, 2, 2)
    assert not any(layer._forward_hooks for layer in layers.values())


def test_hooks_come_off_after_an_error():
    layer = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="stop"), record_outputs({"layer": layer}):
        raise RuntimeError("stop")
    assert not layer._forward_hooks


def test_layers_are_spread_from_first_to_last():
    assert spread(["a", "b"], 3) == ["a", "b"]
    assert spread(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"]
    assert spread([f"{n}" for n in range(12)], 6)[::5] == ["0", "11"]


# heatmaps


def test_strongest_channels_have_the_highest_mean():
    maps = np.zeros((4, 2, 2))
    maps[2], maps[0], maps[3] = 3.0, 1.0, 2.0
    maps[1, 0, 0] = 10.0  # a mean of 2.5
    assert strongest_channels(maps, 3).tolist() == [2, 1, 3]


def test_heatmap_reaches_from_0_to_1_at_the_size_of_the_image():
    scaled = heatmap(np.array([[-1.0, 1.0], [0.0, 3.0]]), (8, 8))
    assert scaled.shape == (8, 8)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)
    # -1, 1, 0, 3 scaled by hand; the corners of the image belong to the corners of the map
    corners = [scaled[0, 0], scaled[0, -1], scaled[-1, 0], scaled[-1, -1]]
    assert corners == pytest.approx([0, 0.5, 0.25, 1])


def test_heatmap_resizes_like_pytorchs_bilinear_interpolation():
    channel_map = np.random.default_rng(0).random((4, 4))
    scaled = (channel_map - channel_map.min()) / np.ptp(channel_map)
    theirs = nn.functional.interpolate(
        torch.from_numpy(scaled)[None, None], (16, 16), mode="bilinear", align_corners=False
    )[0, 0]
    np.testing.assert_allclose(heatmap(channel_map, (16, 16)), theirs.numpy(), atol=1e-9)


def test_heatmap_of_a_constant_map_is_zero():
    assert heatmap(np.full((2, 2), 7.0), (4, 4)).tolist() == np.zeros((4, 4)).tolist()


def test_strongest_channel_map_is_its_heatmap_at_the_layers_size():
    maps = np.random.default_rng(0).normal(size=(4, 5, 3, 3)).astype(np.float32)
    found = strongest_channel_maps(maps)
    assert (found.min(axis=(1, 2)).tolist(), found.max(axis=(1, 2)).tolist()) == ([0] * 4, [1] * 4)
    for image, one in zip(maps, found, strict=True):
        strongest = image[image.mean(axis=(1, 2)).argmax()]
        scaled = (strongest - strongest.min()) / np.ptp(strongest)
        np.testing.assert_allclose(one, scaled, atol=1e-6)


# the stage


def settings(tmp: Path) -> schema.Settings:
    content = presets.values("digits")
    shipped = content["architectures"]
    base = shipped["cnn"] | {"channels": [4, 6, 8], "hidden": 8, "reduction": 4}
    dense = shipped["densenet"] | {"growth_rate": 4, "block_config": [3, 3, 3], "bn_size": 2}
    dense |= {"num_init_features": 4, "attention": "channel", "reduction": 4}
    content["model"] = "plain"
    content["data"]["image_size"] = 8
    content["architectures"] = {
        "plain": base,
        "attentive": base | {"attention": "channel", "baseline": "plain"},
        "dense": dense,
    }
    content["explain"] = {
        "images": 3,
        "channels": 9,
        "faithfulness_images": 12,
        "faithfulness_steps": 4,
        "random_networks": 3,
        "seed": 0,
    }
    content["compute"] = {"device": "cpu", "precision": "fp32", "threads": 1}
    return load.check(content)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    folder = tmp_path / "splits"
    folder.mkdir()
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    split = np.repeat(["train", "validation", "test"], 20)
    np.save(folder / "images.npy", generator.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8))
    np.save(folder / "labels.npy", labels)
    names = [CLASSES[k] for k in labels]
    index = {"id": 100 + np.arange(60), "split": split, "class": names, "origin": "made"}
    pd.DataFrame(index).to_csv(folder / "index.csv", index=False)
    counts = pd.DataFrame(index).groupby("split")["class"].value_counts()
    counts_of_splits = {s: {k: int(counts[s, k]) for k in CLASSES} for s in set(split)}
    description = made_splits(CLASSES, 8, 1, counts=counts_of_splits)
    records.write(folder / "dataset.json", description)
    (folder / "rejected.csv").write_text("path,reason\n")
    return folder


def explained(model: str, splits: Path, out: Path) -> dict[str, bytes]:
    chosen = settings(splits)
    torch.manual_seed(1)
    built = registry.build(chosen.architectures[model].model_dump(), 3, 8, 1)
    weights = splits.parent / f"{model}.safetensors"
    provenance = records.Provenance(
        splits=arrays.read(splits).fingerprint,
        seed=chosen.seeds[0],
        made_from=made_from("train", chosen, model),
    )
    save_weights(built.state_dict(), weights, provenance)
    explain.run(chosen, model, weights, splits, out)
    return {path.name: path.read_bytes() for path in out.iterdir()}


FILES = {
    "feature_maps.png",
    "feature_maps.npz",
    "heatmaps.png",
    "cams.png",
    "grad_cam.npy",
    "faithfulness.svg",
    "faithfulness.csv",
    "faithfulness_areas.csv",
    "faithfulness_curves.svg",
    "empty_images.csv",
    "randomisation.svg",
    "randomisation.csv",
    "explain.json",
}
ATTENTION_FILES = {
    "attention.svg",
    "attention.csv",
    "attention_variation.svg",
    "attention_variation.csv",
}


def test_stage_writes_figures_and_their_numbers_with_the_same_bytes_each_time(
    splits: Path, tmp_path: Path
):
    first = explained("attentive", splits, tmp_path / "first")
    assert set(first) == FILES | ATTENTION_FILES
    assert first == explained("attentive", splits, tmp_path / "second")

    record = json.loads(first["explain.json"])
    assert [len(image["heatmap_channels"]) for image in record["images"]] == [3, 3, 3]
    maps = np.load(tmp_path / "first" / "feature_maps.npz")
    assert {name: maps[name].shape for name in maps} == {
        "conv1": (3, 4, 8, 8),
        "conv2": (3, 6, 4, 4),
        "conv3": (3, 8, 2, 2),
    }
    # the npz holds all 8 channels of conv3, so the choice for the heatmap can be checked
    for image, conv3 in zip(record["images"], maps["conv3"], strict=True):
        means = conv3.mean(axis=(1, 2))
        assert sorted(means)[::-1][:3] == pytest.approx(image["heatmap_mean_activations"], abs=1e-5)


def test_stage_writes_grad_cam_of_all_test_images_in_their_order(splits: Path, tmp_path: Path):
    record = json.loads(explained("plain", splits, tmp_path / "out")["explain.json"])
    assert record["cams"] == {
        "grad_cam": {"layer": "block3.activation", "shape": [2, 2]},
        "layer_cam": {"layer": "block2.activation", "shape": [4, 4]},
    }
    maps = np.load(tmp_path / "out" / "grad_cam.npy")
    assert (maps.dtype, maps.shape) == (np.float16, (20, 2, 2))

    torch.manual_seed(1)
    built = registry.build(settings(splits).architectures["plain"].model_dump(), 3, 8, 1).eval()
    images = torch.from_numpy(np.load(splits / "images.npy")[40:]).permute(0, 3, 1, 2)
    inputs = (images / 255 - 0.5) / 0.25
    layer = built.block3.activation
    expected = class_activation_maps(built, "grad_cam", layer, inputs, built(inputs).argmax(1))
    np.testing.assert_allclose(maps, expected, atol=1e-3)


def test_stage_tests_the_heatmaps_on_as_many_images_as_the_settings_say(
    splits: Path, tmp_path: Path
):
    record = json.loads(explained("dense", splits, tmp_path / "out")["explain.json"])
    assert (record["faithfulness"]["images"], record["faithfulness"]["steps"]) == (12, 4)
    folder = tmp_path / "out"
    areas = pd.read_csv(folder / "faithfulness_areas.csv")
    kinds = ["grad_cam", "layer_cam", "strongest_channel", "random", "centre"]
    assert areas["heatmap"].tolist() == 4 * kinds
    assert (areas["images"] == 12).all()
    assert (areas["low"] <= areas["area"]).all()
    assert (areas["area"] <= areas["high"]).all()

    mean_areas = areas.set_index(["fill", "curve", "heatmap"])["area"]
    differences = pd.read_csv(folder / "faithfulness.csv")
    assert len(differences) == 36
    for row in differences.itertuples():
        area = mean_areas.loc[row.fill].loc[row.curve]
        sign = -1 if row.curve == "deletion" else 1
        expected = sign * (area[row.heatmap] - area[row.against])
        assert row.advantage == pytest.approx(expected, abs=1e-5)

    empty = pd.read_csv(folder / "empty_images.csv").set_index("image")["probability"]
    assert empty.index.tolist() == ["complete", *record["faithfulness"]["fills"]]
    assert empty.idxmax() == "complete"

    table = pd.read_csv(folder / "randomisation.csv")
    assert table["randomised"].drop_duplicates().tolist() == record["randomisation"]["randomised"]
    assert table["heatmap"].tolist() == kinds[:3] * 3
    assert (table["networks"] == record["randomisation"]["networks"]).all()
    assert (table[["networks", "images"]] == (3, 12)).all(axis=None)


def test_all_architectures_are_explained_on_the_same_images(splits: Path, tmp_path: Path):
    records = {}
    for model in ("plain", "dense"):
        files = explained(model, splits, tmp_path / model)
        records[model] = json.loads(files["explain.json"])
        assert set(files) == FILES | (ATTENTION_FILES if model == "dense" else set())
    images = {model: [i["id"] for i in record["images"]] for model, record in records.items()}
    assert images["plain"] == images["dense"]
    assert all(140 <= number < 160 for number in images["plain"])  # the test split's ids
    assert list(records["dense"]["feature_maps"]["layers"]) == ["stem", "block2", "block3"]
    assert records["dense"]["heatmaps"]["layer"] == "block3"
