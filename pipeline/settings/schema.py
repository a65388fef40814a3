"""The typed schema of params.yaml: which settings exist, and what is valid."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from pipeline.settings.image_sizes import LARGEST_IMAGE
from pipeline.system.errors import suggestion

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

SHORTENED = reprlib.Repr()
SHORTENED.maxstring = SHORTENED.maxlong = SHORTENED.maxother = 80
SHORTENED.maxlevel = 3

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
                f"{shown(loss)} is not one of {', '.join(LOSSES)}{suggestion(loss, LOSSES)}, nor "
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
                    f"{shown(name)} is no name for an architecture; use lower-case letters, "
                    "digits and _, beginning with a letter, 64 characters at most"
                )
        return architectures

    @model_validator(mode="after")
    def _names_are_known(self) -> Settings:
        known = list(self.architectures)
        if self.model not in known:
            raise ValueError(not_one_of("model", self.model, known))
        for name, architecture in self.architectures.items():
            baseline = architecture.baseline
            if baseline is None:
                continue
            where = f"architectures.{name}.baseline"
            if baseline not in known:
                raise ValueError(not_one_of(where, baseline, known))
            if baseline == name:
                raise ValueError(f"{where}: '{name}' can't be its own baseline")
        return self


def shown(value: object) -> str:
    """Return a value as a message quotes it: on one line, and not longer than helps."""
    return SHORTENED.repr(value)


def not_one_of(where: str, value: object, known: Iterable[str]) -> str:
    """Return what a message says of a value out of a list, with the closest known name."""
    names = list(known)
    close = suggestion(value, names) if isinstance(value, str) else ""
    return f"{where}: {shown(value)} is not one of {', '.join(names)}{close}"
