"""Presets are complete, commented, and never overwrite what a person wrote."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torchvision
from pydantic import BaseModel

from pipeline.models import registry
from pipeline.settings import presets
from pipeline.settings.load import load
from pipeline.settings.schema import FAMILIES, Settings
from pipeline.settings.yaml_file import read
from pipeline.system.errors import InputError

ROOT = Path(__file__).parents[2]
NAMES = sorted(presets.available())


def test_params_yaml_is_the_default_with_the_comments_of_the_schema() -> None:
    shipped = (ROOT / "params.yaml").read_text(encoding="utf-8")
    fix = "params.yaml is not the default preset; to make it so: python -m pipeline preset digits"
    assert shipped == presets.text("digits"), fix


@pytest.mark.parametrize("name", NAMES)
def test_preset_is_valid_and_says_what_it_is(name: str) -> None:
    settings = presets.load(name)
    assert {"cnn", "densenet", "se_densenet"} <= set(settings.architectures)
    assert len(presets.available()[name]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_channel_attention_has_at_least_two_hidden_units(name: str) -> None:
    """A single one starts or ends dead, at a weight of exactly 0.5, in a third of the modules."""
    settings = presets.load(name)
    hidden = []
    for architecture in settings.architectures.values():
        if architecture.attention == "channel":
            network = registry.build(architecture.model_dump(), 10, 32)
            modules = network.attention_layers().values()
            hidden += [module.squeeze.out_features for module in modules]
    assert min(hidden) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_written_preset_reads_back_as_its_values(name: str, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(presets.text(name), encoding="utf-8")
    assert read(params) == presets.values(name)
    assert load(params) == presets.load(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_preset_names_only_what_it_changes(name: str) -> None:
    default = read(presets.PRESETS / "digits.yaml")
    repeated = [
        path
        for path, value in leaves(read(presets.PRESETS / f"{name}.yaml"))
        if value is not None and dict(leaves(default)).get(path) == value
    ]
    assert repeated == []


def leaves(content: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Every setting that holds a value, by its path."""
    found = []
    for key, value in content.items():
        path = f"{above}.{key}"
        found += leaves(value, path) if isinstance(value, dict) else [(path, value)]
    return found


def test_change_of_a_baseline_reaches_the_entry_that_differs_from_it() -> None:
    smoke = presets.values("smoke")["architectures"]
    assert smoke["ca_cnn"] == smoke["cnn"] | {"attention": "channel", "baseline": "cnn"}
    assert smoke["ca_cnn"]["channels"] == [8, 16]
    assert presets.values("digits")["architectures"]["ca_cnn"]["channels"] == [32, 64, 128]


def test_preset_may_replace_the_architectures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits.yaml").write_bytes((presets.PRESETS / "digits.yaml").read_bytes())
    (tmp_path / "own.yaml").write_text(
        "# A library's.\nmodel: se\narchitectures:\n"
        "  {cnn: null, static_cnn: null, ca_cnn: null, densenet: null, se_densenet: null,\n"
        "   plain: {family: timm, name: resnet18, small_inputs: true},\n"
        "   se: {name: seresnet18, baseline: plain}}\n"
    )
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    plain = {"family": "timm", "name": "resnet18", "small_inputs": True}
    assert presets.values("own")["architectures"] == {
        "plain": plain,
        "se": plain | {"name": "seresnet18", "baseline": "plain"},
    }
    (tmp_path / "params.yaml").write_text(presets.text("own"))
    assert load(tmp_path / "params.yaml") == presets.load("own")


@pytest.mark.parametrize("name", NAMES)
def test_variants_that_are_commented_out_can_be_switched_on(name: str, tmp_path: Path) -> None:
    switched_on, count = re.subn(
        r"^  # (\w+: \{.*\})", r"  \1", presets.text(name), flags=re.MULTILINE
    )
    assert count >= 8
    (tmp_path / "params.yaml").write_text(switched_on)
    architectures = load(tmp_path / "params.yaml").architectures
    assert len(architectures) == len(presets.values(name)["architectures"]) + count
    size = load(tmp_path / "params.yaml").data.image_size or 32  # CIFAR's own
    with torch.device("meta"):
        built = {
            model: registry.build(settings.model_dump(), 10, size)
            for model, settings in architectures.items()
        }
        assert {net(torch.zeros(2, 3, size, size)).shape for net in built.values()} == {(2, 10)}


def described(section: type[BaseModel], above: str = "") -> dict[str, tuple[Any, str]]:
    """The type and the description of every setting that holds a value, by its path."""
    found: dict[str, tuple[Any, str]] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= described(field.annotation, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = field.annotation, field.description or ""
    return found


SETTINGS = described(Settings) | {
    f"{family}.{path}": setting
    for family, section in FAMILIES.items()
    for path, setting in described(section).items()
}


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_is_described_with_its_choices(path: str) -> None:
    annotation, description = SETTINGS[path]
    assert description
    if not path.endswith(("family", "data.normalisation", "unusable_files")):
        assert all(str(choice) in description for choice in choices(annotation))


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a `Literal`; none for any other type."""
    return tuple(value for value in get_args(annotation) if isinstance(value, str | int))


def test_every_comment_of_the_schema_stands_in_params_yaml() -> None:
    text = re.sub(r"\s*\n\s*# ", " ", presets.text("digits"))
    missing = {
        path
        for path, (_, description) in SETTINGS.items()
        if re.sub(r"\n", " ", description) not in text
    }
    assert {path.partition(".")[0] for path in missing} <= {"torchvision", "timm"}


def test_cifar10_preset_is_the_tutorials_recipe() -> None:
    settings = presets.load("cifar10")
    train, augmentation = settings.train, settings.train.augmentation
    assert (train.epochs, train.batch_size, train.optimizer) == (50, 64, "adam")
    assert (train.learning_rate, train.schedule) == (1e-3, "plateau")
    assert (augmentation.crop_padding, augmentation.rotation) == (4, 15)
    assert augmentation.horizontal_flip == 0.5
    assert settings.data.name == "cifar10"


def test_image_folder_preset_is_the_write_ups_recipe() -> None:
    settings = presets.load("image_folder")
    assert (settings.data.image_size, settings.data.normalisation) == (224, "imagenet")
    assert (settings.train.optimizer, settings.train.learning_rate) == ("adam", 1e-4)
    assert (settings.split.test_fraction, settings.model) == (0.2, "se_densenet")


def test_image_folder_preset_has_the_stem_of_densenet_121() -> None:
    """Its parameters: those of torchvision's DenseNet-121 up to the first dense layer."""
    settings = presets.load("image_folder").architectures["se_densenet"]
    assert settings.growth_rate == 32
    with torch.device("meta"):
        ours = registry.build(settings.model_dump(), 10, 224)
        theirs = torchvision.models.densenet121().features
    shapes = [weight.shape for weight in ours.parameters()]
    assert shapes[:4] == [weight.shape for weight in theirs.parameters()][:4]


def test_own_photos_compares_se_densenet_with_the_network_without_and_with_the_placebo() -> None:
    settings = presets.load("own_photos")
    assert (settings.data.name, settings.data.image_size) == ("image_folder", 64)
    assert set(settings.architectures) == {"cnn", "densenet", "static_densenet", "se_densenet"}
    assert settings.architectures["se_densenet"].baseline == ["densenet", "static_densenet"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "smoke"])
def test_preset_has_five_seeds(name: str) -> None:
    assert len(presets.load(name).seeds) == 5


def test_applying_a_preset_writes_it_with_its_comments(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    presets.apply("smoke", params)
    assert params.read_text() == presets.text("smoke")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_edited_settings_are_kept_beside(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    for number in (1, 2):
        params.write_text(f"mine: {number}\n")
        messages = presets.apply("smoke", params)
        assert "was edited: kept as" in messages[0]
    assert (tmp_path / "params.yaml.bak").read_text() == "mine: 1\n"
    assert (tmp_path / "params.yaml.bak2").read_text() == "mine: 2\n"
    assert len(presets.apply("digits", params)) == 1


@pytest.mark.parametrize("writes", [(Path, "write_text"), (shutil, "copy2")])
def test_edited_settings_stay_where_the_disk_is_full(
    writes: tuple[object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    params = tmp_path / "params.yaml"
    params.write_text("mine: 1\n")
    monkeypatch.setattr(*writes, fail)
    with pytest.raises(InputError, match="No space left on device"):
        presets.apply("smoke", params)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    assert params.read_text() == "mine: 1\n"


def test_unknown_preset_lists_the_known_and_changes_nothing(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("mine: 1\n")
    with pytest.raises(InputError, match=r"'cifar' is not one of .*did you mean 'cifar10'"):
        presets.apply("cifar", params)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    assert params.read_text() == "mine: 1\n"
