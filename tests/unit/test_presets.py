"""Presets are complete, commented, and never overwrite what a person wrote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from pipeline import models
from pipeline.settings.load import load
from pipeline.settings.presets import PRESETS, apply, available
from pipeline.system.errors import InputError

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_preset_is_valid_and_says_what_it_is(name: str) -> None:
    settings = load(PRESETS / f"{name}.yaml")
    assert {"cnn", "ca_cnn", "densenet", "se_densenet"} <= set(settings.architectures)
    assert len(available()[name]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_variants_that_are_commented_out_can_be_switched_on(name: str, tmp_path: Path) -> None:
    text = (PRESETS / f"{name}.yaml").read_text()
    switched_on, count = re.subn(r"^  # (\w+: \{.*\})", r"  \1", text, flags=re.MULTILINE)
    assert count >= 8
    (tmp_path / "params.yaml").write_text(switched_on)
    architectures = load(tmp_path / "params.yaml").architectures
    assert len(architectures) == 4 + count
    size = {"digits": 16, "smoke": 8, "image_folder": 224}.get(name, 32)
    with torch.device("meta"):
        built = {
            model: models.build(settings.model_dump(), 10, size)
            for model, settings in architectures.items()
        }
        assert {net(torch.zeros(2, 3, size, size)).shape for net in built.values()} == {(2, 10)}


def comments(name: str) -> dict[str, str]:
    """The comment that stands behind each key of a preset, by line number and key."""
    rows = (PRESETS / f"{name}.yaml").read_text().splitlines()
    keyed = [row for row in rows if ":" in row.partition("#")[0]]
    return {
        f"{number} {row.partition(':')[0].strip()}": row.partition("#")[2].strip()
        for number, row in enumerate(keyed)
        if "block_config" not in row  # says which of the paper's networks it is
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_explains_the_same_settings_in_the_same_words(name: str) -> None:
    assert comments(name) == comments("digits")


def test_cifar10_preset_is_the_tutorials_recipe() -> None:
    settings = load(PRESETS / "cifar10.yaml")
    train, augmentation = settings.train, settings.train.augmentation
    assert (train.epochs, train.batch_size, train.optimizer) == (50, 64, "adam")
    assert (train.learning_rate, train.schedule) == (1e-3, "plateau")
    assert (augmentation.crop_padding, augmentation.rotation) == (4, 15)
    assert augmentation.horizontal_flip == 0.5
    assert settings.data.name == "cifar10"


def test_image_folder_preset_is_the_write_ups_recipe() -> None:
    settings = load(PRESETS / "image_folder.yaml")
    assert (settings.data.image_size, settings.data.normalisation) == (224, "imagenet")
    assert (settings.train.optimizer, settings.train.learning_rate) == ("adam", 1e-4)
    assert (settings.split.test_fraction, settings.model) == (0.2, "se_densenet")


def test_applying_a_preset_keeps_its_comments(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    apply("smoke", params)
    assert params.read_text() == (PRESETS / "smoke.yaml").read_text()


def test_edited_settings_are_kept_beside(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    for number in (1, 2):
        params.write_text(f"mine: {number}\n")
        told = apply("smoke", params)
        assert "was edited: kept as" in told[0]
    assert (tmp_path / "params.yaml.bak").read_text() == "mine: 1\n"
    assert (tmp_path / "params.yaml.bak2").read_text() == "mine: 2\n"
    assert len(apply("digits", params)) == 1


def test_unknown_preset_lists_the_known_and_changes_nothing(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("mine: 1\n")
    with pytest.raises(InputError, match=r"'cifar' is not one of .*did you mean 'cifar10'"):
        apply("cifar", params)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    assert params.read_text() == "mine: 1\n"
