from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.proportion import proportions_ztest

from pipeline.data.arrays import Dataset
from pipeline.evaluation import cost
from pipeline.models import registry
from pipeline.report.filters import TEMPLATES
from pipeline.report.published_accuracies import published_for
from pipeline.settings import load, presets

ROOT = Path(__file__).parents[2]


def architecture(name: str, **changes: Any) -> dict[str, Any]:
    content = presets.values("cifar10")
    content["architectures"][name] |= changes
    return load.check(content).architectures[name].model_dump()


def dataset(name: str = "cifar10", test: int = 10_000, size: int = 32) -> Dataset:
    count = test + 10
    return Dataset(
        name=name,
        images=np.broadcast_to(np.uint8(0), (count, size, size, 3)),
        labels=np.arange(count) % 10,
        ids=np.arange(count),
        split=np.array(["test"] * test + ["train"] * 10),
        classes=tuple("abcdefghij"),
        mean=np.zeros(3, np.float32),
        std=np.ones(3, np.float32),
        counts={},
        rejected=0,
    )


def accuracies(of: dict[str, Any], images: Dataset) -> list[float]:
    return [figure.accuracy for figure in published_for(of, images)]


BC_100 = {"block_config": [16, 16, 16]}


def test_published_networks_are_known_by_their_settings():
    assert accuracies(architecture("cnn"), dataset()) == [84.68]
    assert accuracies(architecture("cnn", padding=1), dataset()) == [84.68]
    assert accuracies(architecture("ca_cnn"), dataset()) == [85.38]
    assert accuracies(architecture("densenet", **BC_100), dataset()) == [95.49, 95.23]
    # what only saves memory, or nothing reads, makes no other network
    assert accuracies(architecture("densenet", **BC_100, efficient=True), dataset()) == [
        95.49,
        95.23,
    ]
    assert accuracies(architecture("cnn", reduction=4), dataset()) == [84.68]


@pytest.mark.parametrize(
    ("name", "parameters"), [("cnn", 1_147_914), ("ca_cnn", 1_150_602), ("densenet", 769_162)]
)
def test_networks_that_are_taken_for_published_have_their_parameters(name: str, parameters: int):
    content = architecture(name, **(BC_100 if name == "densenet" else {}))
    assert published_for(content, dataset())
    assert cost.parameters(registry.build(content, 10, 32, 3)) == parameters


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cnn", {"channels": [32, 64]}),
        ("cnn", {"padding": 0}),
        ("cnn", {"activation": "mish"}),
        ("cnn", {"attention": "spatial"}),
        ("ca_cnn", {"reduction": 8}),
        ("ca_cnn", {"attention_at": [3]}),
        ("densenet", {}),  # L=40
        ("se_densenet", BC_100),
        ("densenet", BC_100 | {"drop_rate": 0.2}),
    ],
)
def test_other_networks_have_nothing_published(name: str, changes: dict[str, Any]):
    assert accuracies(architecture(name, **changes), dataset()) == []


def test_networks_of_a_library_have_nothing_published():
    library = {"family": "torchvision", "name": "resnet18", "small_inputs": True, "baseline": None}
    assert accuracies(library, dataset()) == []


@pytest.mark.parametrize(
    "images",
    [dataset("cifar100"), dataset(test=9_000), dataset(size=64)],
    ids=["data set", "images", "size"],
)
def test_other_images_have_nothing_published(images: Dataset):
    assert accuracies(architecture("cnn"), images) == []


def test_published_pair_decides_nothing():
    right = np.array([8468, 8538])
    _, p = proportions_ztest(right, [10_000, 10_000])
    assert f"{right[1] - right[0]} of 10,000 images: p = {p:.3f} (unpaired)" in (
        TEMPLATES / "certainty.md.j2"
    ).read_text(encoding="utf-8")
