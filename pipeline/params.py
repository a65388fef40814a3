"""The typed schema of params.yaml: the one place that says which settings exist and what is valid.

`load` turns the file into a frozen `Settings` or raises an `InputError` that names the key, its
value, what would be right and the file to change. Nothing heavy is imported here, since both
engines and every command check the settings before they do anything else.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline import combinations
from pipeline.errors import InputError, suggestion
from pipeline.image_sizes import LARGEST_IMAGE
from pipeline.settings_file import read

Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]

# Larger ones are slips of the pen, and would fill the memory before they are found out.
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels, units, groups
Layers = Annotated[int, Field(ge=1, le=1000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Penalty = Annotated[float, Field(ge=0, le=1_000_000)]

# Names become folders, stage addresses and rule names, which a file system has to take.
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
LIBRARY_NAME = re.compile(r"[A-Za-z0-9_.]+")
LOSSES = ("cross_entropy", "mse")
DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

MOST_TOLD = 20  # mistakes in one message

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxlong = _SHORTENED.maxother = 80
_SHORTENED.maxlevel = 3

Activation = Literal["relu", "leaky_relu", "elu", "silu", "mish", "tanh", "sigmoid"]
Normalisation = Literal["batch", "layer", "instance", "group"]
Attention = Literal["none", "channel", "spatial", "cbam", "self_attention"]
SourceName = Literal["digits", "cifar10", "cifar100", "fashion_mnist", "image_folder"]


class Section(BaseModel):
    """A mapping in params.yaml: read-only, and every key in it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Cnn(Section):
    """The plain network of convolution, norm, activation, attention and pool (family ``cnn``)."""

    family: Literal["cnn"]
    channels: Annotated[list[Width], Field(min_length=1, max_length=100)]
    kernel_size: Literal[3, 5]
    stride: Pixels
    padding: Annotated[int, Field(ge=0, le=1024)] | None
    dilation: Pixels
    groups: Width
    activation: Activation
    normalisation: Normalisation
    norm_groups: Width
    pooling: Literal["max", "average", "strided_conv", "dilated_conv", "none"]
    head: Literal["flatten", "global_average"]
    hidden: Width
    dropout: Probability
    attention: Attention
    reduction: Width
    heads: Width
    baseline: str | None = None


class DenseNet(Section):
    """DenseNet-BC (family ``densenet``), https://arxiv.org/abs/1608.06993."""

    family: Literal["densenet"]
    growth_rate: Width
    block_config: Annotated[list[Layers], Field(min_length=1, max_length=100)]
    compression: Annotated[float, Field(gt=0, le=1)]
    num_init_features: Width
    bn_size: Width
    drop_rate: Probability
    small_inputs: bool
    efficient: bool
    activation: Activation
    normalisation: Normalisation
    norm_groups: Width
    attention: Attention
    reduction: Width
    heads: Width
    baseline: str | None = None


class Library(Section):
    """A classifier by its name in torchvision or, where that is installed, timm; untrained."""

    family: Literal["torchvision", "timm"]
    name: Annotated[str, Field(pattern=LIBRARY_NAME.pattern)]
    small_inputs: bool
    baseline: str | None = None


Architecture = Annotated[Cnn | DenseNet | Library, Field(discriminator="family")]


class Data(Section):
    """Which images, and at what size."""

    name: SourceName
    path: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=4, le=LARGEST_IMAGE)] | None
    normalisation: Literal["training", "imagenet"]
    unusable_files: Literal["set_aside", "stop"]

    @model_validator(mode="after")
    def _own_images_need_a_size(self) -> Data:
        if self.name == "image_folder" and self.image_size is None:
            raise ValueError(
                "image_size: own images come in many sizes; set one in pixels, such as 224"
            )
        return self


class Split(Section):
    """How the images are divided into training, validation and test."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    validation_fraction: Fraction
    test_fraction: Fraction
    folds: Annotated[int, Field(ge=2, le=1000)] | None
    max_per_class: PositiveInt | None


class Plateau(Section):
    """ReduceLROnPlateau on the validation loss."""

    factor: Fraction
    patience: NonNegativeInt


class OneCycle(Section):
    """OneCycleLR: up to the learning rate and down again, step by step; PyTorch's names."""

    pct_start: Fraction
    div_factor: Annotated[float, Field(ge=1)]
    final_div_factor: Annotated[float, Field(ge=1)]


class Augmentation(Section):
    """What is drawn anew for every training image in every epoch."""

    random_resized_crop: Annotated[float, Field(ge=0, lt=1)]
    crop_padding: Annotated[int, Field(ge=0, le=512)]
    horizontal_flip: Annotated[float, Field(ge=0, le=1)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    brightness: Annotated[float, Field(ge=0, le=1)]
    contrast: Annotated[float, Field(ge=0, le=1)]
    saturation: Annotated[float, Field(ge=0, le=1)]
    hue: Annotated[float, Field(ge=0, le=0.5)]
    cutmix: Annotated[float, Field(ge=0, le=1)]


class Train(Section):
    """The one recipe under which every architecture is trained."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    processes: Annotated[int, Field(ge=1, le=1024)]
    loss: str
    label_smoothing: Probability
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: Rate
    momentum: Probability
    weight_decay: Penalty
    l1: Penalty
    schedule: Literal["fixed", "plateau", "cosine", "one_cycle"]
    plateau: Plateau
    one_cycle: OneCycle
    warmup_epochs: NonNegativeInt
    early_stopping: PositiveInt | None
    augmentation: Augmentation

    @field_validator("loss")
    @classmethod
    def _loss_is_known(cls, loss: str) -> str:
        if loss not in LOSSES and not DOTTED_PATH.fullmatch(loss):
            raise ValueError(
                f"{_shown(loss)} is not one of {', '.join(LOSSES)}{suggestion(loss, LOSSES)}, nor "
                "the dotted path of a function, such as pipeline.training.losses.focal"
            )
        return loss


class Compute(Section):
    """On what the networks run, and in which precision."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Annotated[int, Field(ge=1, le=1024)]


class Evaluate(Section):
    """How the trained networks are measured."""

    batch_size: Count
    latency_repeats: Annotated[int, Field(ge=3, le=1_000_000)]


class Explain(Section):
    """What the figures of feature maps and heatmaps show, and how heatmaps are put to the test."""

    images: Annotated[int, Field(ge=1, le=10)]
    channels: Annotated[int, Field(ge=1, le=64)]
    faithfulness_images: Annotated[int, Field(ge=2, le=1_000_000)]
    faithfulness_steps: Annotated[int, Field(ge=2, le=1000)]
    seed: NonNegativeInt


class Report(Section):
    """How the comparison is judged."""

    confidence: Fraction
    resamples: Annotated[int, Field(ge=100)]
    margin: NonNegativeFloat
    ensembles: list[Literal["seeds", "architectures"]]
    seed: NonNegativeInt


class Settings(Section):
    """All of params.yaml."""

    model: str
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    architectures: Annotated[dict[str, Architecture], Field(min_length=1)]
    data: Data
    split: Split
    train: Train
    compute: Compute
    evaluate: Evaluate
    explain: Explain
    report: Report

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        twice = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
        if twice:
            raise ValueError(f"{twice[0]} is listed twice; every seed is one training run")
        return seeds

    @field_validator("architectures")
    @classmethod
    def _names_are_plain(cls, architectures: dict[str, Any]) -> dict[str, Any]:
        for name in architectures:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{_shown(name)} is no name for an architecture; use lower-case letters, "
                    "digits and _, beginning with a letter, 64 characters at most"
                )
        return architectures

    @model_validator(mode="after")
    def _names_are_known(self) -> Settings:
        known = list(self.architectures)
        if self.model not in known:
            raise ValueError(_not_one_of("model", self.model, known))
        for name, architecture in self.architectures.items():
            baseline = architecture.baseline
            if baseline is None:
                continue
            where = f"architectures.{name}.baseline"
            if baseline not in known:
                raise ValueError(_not_one_of(where, baseline, known))
            if baseline == name:
                raise ValueError(f"{where}: '{name}' can't be its own baseline")
        return self

    @model_validator(mode="after")
    def _settings_agree(self) -> Settings:
        found = combinations.senseless(self)
        if found:
            raise ValueError("\n".join(found))
        return self


def load(path: Path) -> Settings:
    """Read and check a settings file.

    Args:
        path: the file, usually ``params.yaml``.

    Raises:
        InputError: if it can't be read, is no YAML, or a setting in it is wrong. Of several
            mistakes each is named, on one line.
    """
    return check(read(path), path.name)


def check_loss(settings: Settings) -> None:
    """Check that a loss of one's own is in a module that exists; nothing of it is run.

    Raises:
        InputError: if there is no such module.
    """
    loss = settings.train.loss
    if loss in LOSSES:
        return
    module, _, _ = loss.rpartition(".")
    if _spec(module) is None:
        raise InputError(f"params.yaml: train.loss: '{loss}': there is no module {module}")


def check(content: dict[str, Any], where: str = "params.yaml") -> Settings:
    """Return the settings in `content`, or raise an `InputError` that begins with `where`."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        messages = [line for detail in error.errors() for line in _explain(detail).split("\n")]
        told = [f"{where}: {message}" for message in messages[:MOST_TOLD]]
        more = len(messages) - MOST_TOLD
        raise InputError("; ".join([*told, f"and {more} more"] if more > 0 else told)) from None


def _spec(module: str) -> ModuleSpec | None:
    """Return where a module is, or None; unlike `find_spec` it imports no package on the way."""
    package, _, _ = module.rpartition(".")
    try:
        if not package:
            return find_spec(module)
        parent = _spec(package)
        if parent is None or parent.submodule_search_locations is None:
            return None
        return PathFinder.find_spec(module, parent.submodule_search_locations)
    except (ImportError, ValueError, OSError):  # as for a module without a spec, a name too long
        return None


def _shown(value: object) -> str:
    """Return a value as a message quotes it: on one line, and not longer than helps."""
    return _SHORTENED.repr(value)


def _not_one_of(where: str, value: object, known: Iterable[str]) -> str:
    names = list(known)
    close = suggestion(value, names) if isinstance(value, str) else ""
    return f"{where}: {_shown(value)} is not one of {', '.join(names)}{close}"


def _explain(detail: ErrorDetails) -> str:
    """Say one of pydantic's findings as ``key: value, what would be right``."""
    parts = _settings_path(detail["loc"])
    where = ".".join(_key(part) for part in parts)
    value = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: no such setting{suggestion(str(parts[-1]), _siblings(parts))}"
        case "missing":
            return f"{where}: is missing"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{where}: {_shown(value)}: expected a mapping of settings"
        case "literal_error":
            choices = [str(choice) for choice in _choices(context.get("expected", ""))]
            return _not_one_of(where, value, choices)
        case "union_tag_invalid":
            choices = _choices(context.get("expected_tags", ""))
            return _not_one_of(f"{where}.family", context.get("tag"), choices)
        case "union_tag_not_found":
            return f"{where}.family: is missing"
        case "value_error":
            reason = str(context["error"])
            if not where:
                return reason
            return f"{where}.{reason}" if reason.startswith("image_size") else f"{where}: {reason}"
    expected = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{where}: {_shown(value)}: {expected}"


def _key(part: int | str) -> str:
    """Return a part of a setting's path; one that would break the line is quoted."""
    text = str(part)
    return text if text.isprintable() and len(text) <= _SHORTENED.maxstring else _shown(text)


def _settings_path(location: tuple[int | str, ...]) -> list[int | str]:
    """Drop from pydantic's location what is no key of the file (the tag of the union)."""
    path: list[int | str] = []
    for position, part in enumerate(location):
        if position == 2 and location[0] == "architectures":
            continue
        path.append(part)
    return path


def _siblings(path: list[int | str]) -> list[str]:
    """Return the settings that exist beside the last key of `path`."""
    names = {"train": Train, "data": Data, "split": Split, "compute": Compute}
    names |= {"evaluate": Evaluate, "explain": Explain, "report": Report}
    if len(path) == 1:
        return list(Settings.model_fields)
    if path[0] == "architectures":
        return [name for kind in (Cnn, DenseNet, Library) for name in kind.model_fields]
    section: Any = names[str(path[0])]
    for part in path[1:-1]:
        section = section.model_fields[str(part)].annotation
    return list(section.model_fields)


def _choices(expected: str) -> list[str]:
    """Return the choices in pydantic's ``'a', 'b' or 'c'``."""
    return [choice.strip(" '") for choice in re.split(r",| or ", expected)]
