"""The typed schema of params.yaml: every setting once, with its bounds and its comment there.

`commented_yaml` writes the comments. After a change of one: ``python -m pipeline preset digits``.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from pipeline.settings.image_sizes import LARGEST_IMAGE
from pipeline.system.errors import not_one_of, shown, suggestion

# Names become folders, stage addresses and rule names, which a file system has to take.
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
LOSSES = ("cross_entropy", "mse")
DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def setting(comment: str) -> Any:
    """Return a required field with its comment in params.yaml; a repeated one is written once."""
    return Field(description=comment)


Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]  # of what must not always happen
Share = Annotated[float, Field(ge=0, le=1)]

# Larger ones are slips of the pen, and would fill the memory before they are found out.
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels, units, groups
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Small = Annotated[int, Field(ge=1, le=1024)]  # pixels, threads, processes
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Penalty = Annotated[float, Field(ge=0, le=1_000_000)]
Factor = Annotated[float, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as many as scikit-learn takes
Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]

# What the families of networks share.
Activation = Annotated[
    Literal["relu", "leaky_relu", "elu", "gelu", "silu", "mish", "tanh", "sigmoid"],
    setting("relu, leaky_relu (0.01), elu, gelu, silu (swish), mish, tanh, sigmoid"),
]
Normalisation = Annotated[
    Literal["batch", "layer", "instance", "group"], setting("batch, layer, instance, group")
]
Attention = Annotated[
    Literal[
        "none",
        "channel",
        "static",
        "spatial",
        "cbam",
        "eca",
        "coordinate",
        "simam",
        "self_attention",
    ],
    setting(
        "none, channel (squeeze-and-excitation), static (placebo), spatial, cbam, eca,\n"
        "coordinate, simam, self_attention"
    ),
]
Reduction = Annotated[
    Width, setting("channel, cbam and coordinate squeeze C channels to max(1, C // reduction)")
]
Heads = Annotated[Width, setting("of self_attention; has to divide the channels")]
Weights = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    setting("what it starts from: a .safetensors or .pth file, or default (the library's own)"),
]
Sha256 = Annotated[
    Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None,
    setting("of that file, unless its name ends in it as PyTorch's do; `check` says which it is"),
]


def _names(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:  # one for each way to write them
        raise ValueError(
            f"{shown(value)} is neither the name of an architecture nor a list of 1 to 10 names, "
            "such as [cnn]"
        ) from None


Baseline = Annotated[
    str | Annotated[list[str], Field(min_length=1, max_length=10)] | None,
    WrapValidator(_names),
    setting("the entry that differs in one thing alone: the report compares the two; or [several]"),
]


def named(baseline: str | list[str] | None) -> tuple[str, ...]:
    """Return the baselines that an architecture names; the first one counts the most."""
    if baseline is None:
        return ()
    return (baseline,) if isinstance(baseline, str) else tuple(baseline)


class Section(BaseModel):
    """A mapping in params.yaml: read-only, and every key in it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Cnn(Section):
    """The plain network of convolution, norm, activation, attention and pool (family ``cnn``)."""

    family: Literal["cnn"] = setting(
        "blocks of convolution, normalisation, activation, attention, pooling"
    )
    channels: Annotated[list[Width], Field(min_length=1, max_length=100)] = setting(
        "of each block; one more number is one more block"
    )
    kernel_size: Literal[3, 5] = setting("3 or 5")
    stride: Small = setting("of each convolution")
    padding: Annotated[int, Field(ge=0, le=1024)] | None = setting(
        "pixels on each side; null keeps the size where stride is 1"
    )
    dilation: Small = setting("distance between the pixels that a convolution sees")
    groups: Width = setting("of each convolution but the first, whose input is the image")
    activation: Activation
    normalisation: Normalisation
    norm_groups: Width = setting("of group normalisation; has to divide the channels")
    pooling: Literal["max", "average", "strided_conv", "dilated_conv", "none"] = setting(
        "max, average, strided_conv (3x3, stride 2), dilated_conv (keeps the size), none"
    )
    head: Literal["flatten", "global_average"] = setting(
        "flatten, global_average: what the fully connected layers get"
    )
    hidden: Width = setting("width of the fully connected layer before the last")
    dropout: Probability = setting("before the last layer; raise it when the network overfits")
    attention: Attention
    attention_at: (
        Literal["all"] | Annotated[list[Positive], Field(min_length=1, max_length=100)]
    ) = setting("all, or the numbers of the blocks that have attention, such as [3]")
    reduction: Reduction
    heads: Heads
    weights: Weights = None
    sha256: Sha256 = None
    baseline: Baseline = None

    @field_validator("attention_at", mode="wrap")
    @classmethod
    def _blocks_are_named(cls, blocks: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(blocks)
        except ValidationError:  # one for each way to name them
            raise ValueError(
                f"{shown(blocks)} is neither all nor a list of block numbers, such as [3]"
            ) from None


class DenseNet(Section):
    """DenseNet-BC (family ``densenet``), https://arxiv.org/abs/1608.06993."""

    family: Literal["densenet"] = setting("DenseNet-BC, arXiv:1608.06993")
    growth_rate: Width = setting("channels that each layer adds: k in the paper")
    block_config: Annotated[
        list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1, max_length=100)
    ] = setting("layers per dense block; the paper's L=40 is [6, 6, 6], L=100 [16, 16, 16]")
    compression: Annotated[float, Field(gt=0, le=1)] = setting(
        "of the channels between blocks; 0.5 in the paper"
    )
    num_init_features: Width = setting(
        "channels of the stem; 24 for small images, 64 for ImageNet's size"
    )
    bn_size: Width = setting("the 1x1 convolution has bn_size * growth_rate channels")
    drop_rate: Probability = setting(
        "dropout after each layer; the paper's 0.2 is without augmentation"
    )
    small_inputs: bool = setting(
        "stem of 3x3, stride 1; false: 7x7, stride 2 and pool, for 128 pixels or more"
    )
    efficient: bool = setting("true: recompute in the backward pass what would else be stored")
    activation: Activation
    normalisation: Normalisation
    norm_groups: Width = setting("has to divide the channels of every layer")
    attention: Attention
    attention_at: Literal["layers", "transitions", "blocks"] = setting(
        "layers (on what each adds), transitions (before they pool), blocks (after each)"
    )
    reduction: Reduction
    heads: Heads
    weights: Weights = None
    sha256: Sha256 = None
    baseline: Baseline = None


class Library(Section):
    """A classifier by its name in torchvision or, where that is installed, timm."""

    family: Literal["torchvision", "timm"] = setting("a network of a library's")
    name: Text = setting("any of torchvision's, or of timm's, if installed")
    small_inputs: bool = setting("true: a stem that keeps the size of small images")
    weights: Weights = None
    sha256: Sha256 = None
    baseline: Baseline = None


FAMILIES: dict[str, type[Section]] = {
    "cnn": Cnn,
    "densenet": DenseNet,
    "torchvision": Library,
    "timm": Library,
}
Architecture = Annotated[Cnn | DenseNet | Library, Field(discriminator="family")]


class MeanStd(Section):
    """What images are normalised by: a number for each channel, for pixels in [0, 1]."""

    mean: list[Share]
    std: list[Annotated[float, Field(gt=0, le=1)]]


def _mapping_or_name(value: Any) -> str:
    return "mapping" if isinstance(value, dict | MeanStd) else "name"


class Data(Section):
    """Which images, and at what size."""

    name: Literal["digits", "cifar10", "cifar100", "fashion_mnist", "image_folder"] = setting(
        "digits, cifar10, cifar100, fashion_mnist, image_folder (your own)"
    )
    path: Text = setting(
        "image_folder: the folder with a sub-folder per class; else: where\n"
        "you put a source's files by hand if its host can't be reached"
    )
    labels: Text | None = setting(
        "image_folder: a CSV in data.path with the columns file,class and, if you\n"
        "like, split,group; null: the sub-folders are the classes"
    )
    image_size: Annotated[int, Field(ge=4, le=LARGEST_IMAGE)] | None = setting(
        "pixels a side; null keeps the source's own (digits: 8, CIFAR: 32)"
    )
    normalisation: Annotated[
        Annotated[Literal["training", "imagenet"], Tag("name")]
        | Annotated[MeanStd, Tag("mapping")],
        Discriminator(_mapping_or_name),
    ] = setting(
        "by mean and std of the training split, or imagenet's (colour images),\n"
        "or yours, for pixels in [0, 1], such as {mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}"
    )
    unusable_files: Literal["set_aside", "stop"] = setting(
        "image_folder: set_aside files that are no images, listed in the report; or stop"
    )


class Split(Section):
    """How the images are divided into training, validation and test."""

    seed: Seed = setting("which images go where; keep it, or results no longer compare")
    validation_fraction: Fraction = setting(
        "of the training images: chooses the epoch and drives the schedule"
    )
    test_fraction: Fraction = setting("of all images; unused where the source has its own test set")
    folds: Annotated[int, Field(ge=2, le=1000)] | None = setting(
        "a number: k-fold cross-validation over all images; run r holds out fold r"
    )
    max_per_class: Positive | None = setting(
        "a number: use only so many images a class and split, for a quick try"
    )


class Plateau(Section):
    """ReduceLROnPlateau on the validation loss."""

    factor: Fraction = setting("the learning rate is multiplied by this (PyTorch's default) ...")
    patience: Natural = setting("... after more than this many epochs without a better loss")


class StepDecay(Section):
    """StepLR."""

    every: Count = setting("after every so many epochs, a warm-up aside, ...")
    factor: Fraction = setting("... the learning rate is multiplied by this")


class OneCycle(Section):
    """OneCycleLR: up to the learning rate and down again, step by step; PyTorch's names."""

    pct_start: Fraction = setting("share of the steps in which the learning rate rises")
    div_factor: Factor = setting("it begins at learning_rate / div_factor ...")
    final_div_factor: Factor = setting("... and ends at that / final_div_factor")


JITTER = "factor from 1 - x to 1 + x, as torchvision's ColorJitter"


class Augmentation(Section):
    """What is drawn for every training image in every epoch."""

    random_resized_crop: Probability = setting(
        "smallest share of the area; 0.08 for ImageNet; instead of crop_padding"
    )
    crop_padding: Annotated[int, Field(ge=0, le=512)] = setting(
        "pixels: pad by so many, then crop at random; 4 for CIFAR"
    )
    horizontal_flip: Share = setting("probability; 0.5 for photographs, 0 if left and right matter")
    rotation: Annotated[float, Field(ge=0, le=180)] = setting("degrees, either way")
    brightness: Share = setting(JITTER)
    contrast: Share = setting(JITTER)
    saturation: Share = setting(JITTER)
    hue: Annotated[float, Field(ge=0, le=0.5)] = setting("shift from -x to x of the colour circle")
    random_erasing: Share = setting(
        "probability that a rectangle becomes the mean colour (arXiv:1708.04896)"
    )
    cutmix: Share = setting(
        "probability of a patch of another image, labels mixed (arXiv:1905.04899)"
    )
    mixup: Annotated[float, Field(ge=0, le=100)] = setting(
        "alpha: images and labels are mixed with another's by a share from\n"
        "Beta(alpha, alpha); 0.2 to 1 (arXiv:1710.09412); instead of cutmix"
    )


class Train(Section):
    """The one recipe under which every architecture is trained."""

    epochs: Count = setting("passes over the training images; the best by validation is kept")
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = setting(
        "images a step, of all processes together; scale learning_rate with it"
    )
    processes: Small = setting("that train one network together, each with its own GPU or threads")
    loss: str = setting("cross_entropy, mse (on one-hot targets), or your function by dotted path")
    label_smoothing: Probability = setting("of cross_entropy; 0.1 makes answers less confident")
    class_weights: Literal["none", "balanced"] = setting(
        "none, balanced (of cross_entropy: an image of a rare class counts for more)"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = setting("adam, adamw, sgd")
    learning_rate: Rate = setting("the highest of the schedule; Adam's usual 0.001, for SGD 0.1")
    momentum: Probability = setting("of sgd alone")
    nesterov: bool = setting("of sgd with momentum: look ahead along it")
    weight_decay: Penalty = setting("L2 penalty (adamw: decoupled); 1e-4 is usual with sgd")
    l1: Penalty = setting(
        "L1 penalty on convolutions, linear layers and tokens; not on biases, norms, scales"
    )
    clip_norm: Rate | None = setting(
        "a number: a gradient of all weights that is longer is scaled down to this length"
    )
    schedule: Literal["fixed", "plateau", "step", "cosine", "one_cycle"] = setting(
        "fixed, plateau (on the validation loss), step, cosine (down to 0), one_cycle (up, down)"
    )
    plateau: Plateau
    step: StepDecay
    one_cycle: OneCycle = setting("PyTorch's names and defaults")
    warmup_epochs: Natural = setting("linear rise from a hundredth, before the schedule begins")
    early_stopping: Positive | None = setting(
        "a number: stop after more than so many epochs without a better validation loss"
    )
    ema: Fraction | None = setting(
        "a decay such as 0.99: validate and keep a moving average of the weights, over\n"
        "about 1 / (1 - decay) steps"
    )
    freeze: Natural = setting(
        "epochs in which what a network started from (its weights: FILE) stays as it is"
    )
    body_rate: Annotated[float, Field(gt=0, le=1)] = setting(
        "the learning rate of that, as a share of learning_rate; 0.1 is usual"
    )
    augmentation: Augmentation = setting("drawn for each image in every epoch; 0 turns a line off")

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

    device: Literal["auto", "cpu", "cuda"] = setting("auto (a GPU if there is one), cpu, cuda")
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto (bf16 where the hardware has it, else fp32), fp32, bf16"
    )
    threads: Small = setting("CPU threads of one job; results depend on it: same number, same bits")


class Evaluate(Section):
    """How the trained networks are measured."""

    batch_size: Count = setting("images a step, as the report's throughput and memory are measured")
    latency_repeats: Annotated[int, Field(ge=3, le=1_000_000)] = setting(
        "how often one image is timed; the median is reported"
    )


class Explain(Section):
    """What the figures of feature maps and heatmaps show, and how heatmaps are tested."""

    images: Annotated[int, Field(ge=1, le=10)] = setting(
        "test images shown, of different classes, the same for all architectures"
    )
    channels: Annotated[int, Field(ge=1, le=64)] = setting("channels shown of each layer")
    faithfulness_images: Annotated[int, Field(ge=2, le=1_000_000)] = setting(
        "test images on which the heatmaps are tested, chosen at random"
    )
    faithfulness_steps: Annotated[int, Field(ge=2, le=1000)] = setting(
        "in which an image is taken away and put back, the hottest pixels first"
    )
    random_networks: Annotated[int, Field(ge=2, le=1000)] = setting(
        "with random weights, whose heatmaps are compared with the trained network's"
    )
    seed: Seed = setting("which images")


class Report(Section):
    """How the comparison is judged."""

    confidence: Fraction = setting("of the intervals")
    judged_by: Literal["accuracy", "balanced_accuracy"] = setting(
        "accuracy, balanced_accuracy (every class counts the same, however many images it has)"
    )
    margin: Annotated[float, Field(gt=0)] = setting(
        'percentage points: "does not pay" needs a gain as large as this to be excluded'
    )
    ensembles: list[Literal["seeds", "architectures"]] = setting(
        "rows of the comparison: each architecture over its seeds; all of a seed"
    )
    seed: Seed = setting("which training images are shown")
    note: Text | None = setting(
        "shown below the answer: how the recipe was chosen, and whether on test images, which the "
        "program\ncan't know; null for nothing"
    )


class Settings(Section):
    """All of params.yaml."""

    model: str = setting(
        "The candidate: the architecture that the report's first sentence and `dvc exp show` are "
        "about.\nChange it to put another one forward: `dvc exp run -S model=se_densenet`."
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = setting(
        "One training run of every architecture for each seed. More seeds make the interval "
        "narrower and\nthe run longer; with a single seed nothing can be said about luck. Five is "
        "the least worth having."
    )
    architectures: Annotated[dict[str, Architecture], Field(min_length=1)] = setting(
        "What is compared. Every entry is trained for every seed. `&name` and `<<: *name` are "
        "plain YAML:\ntake all settings of that entry, then change some."
    )
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
        if self.model not in self.architectures:
            raise ValueError(not_one_of("model", self.model, self.architectures))
        for name, architecture in self.architectures.items():
            where, baselines = f"architectures.{name}.baseline", named(architecture.baseline)
            for baseline in baselines:
                if baseline not in self.architectures:
                    others = [other for other in self.architectures if other != name]
                    raise ValueError(not_one_of(where, baseline, others))
                if baseline == name:
                    raise ValueError(f"{where}: '{name}' can't be its own baseline")
                if baselines.count(baseline) > 1:
                    raise ValueError(f"{where}: '{baseline}' stands there twice; once is enough")
        return self
