"""Conflicting settings are refused with a message that names both."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.settings import presets
from pipeline.settings.load import check
from pipeline.system.errors import InputError

CIFAR10 = presets.values("cifar10")


def changed(changes: dict[str, object]) -> dict[str, Any]:
    """The CIFAR-10 preset with the settings at these paths changed."""
    content = copy.deepcopy(CIFAR10)
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    return content


CONFLICTING: dict[str, tuple[dict[str, object], tuple[str, str]]] = {
    "smoothed labels without cross entropy": (
        {"train.loss": "mse", "train.label_smoothing": 0.1},
        ("train.label_smoothing: 0.1", "train.loss"),
    ),
    "class weights without cross entropy": (
        {"train.loss": "mse", "train.class_weights": "balanced"},
        ("train.class_weights: 'balanced'", "train.loss"),
    ),
    "a warm-up as long as the run": (
        {"train.epochs": 5, "train.warmup_epochs": 5},
        ("train.warmup_epochs: 5", "train.epochs 5"),
    ),
    "more processes than pairs of images in a batch": (
        {"train.processes": 9, "train.batch_size": 16},
        ("train.processes: 9", "train.batch_size of 16"),
    ),
    "a run that stops before the plateau acts": (
        {"train.early_stopping": 5, "train.plateau.patience": 5},
        ("train.early_stopping: 5", "train.plateau.patience 5"),
    ),
    "steps after the end": (
        {"train.schedule": "step", "train.epochs": 30, "train.step.every": 30},
        ("train.step.every: 30", "train.epochs 30"),
    ),
    "two kinds of random crop": (
        {"train.augmentation.random_resized_crop": 0.5},
        ("train.augmentation.crop_padding: 4", "train.augmentation.random_resized_crop 0.5"),
    ),
    "two ways to mix images": (
        {"train.augmentation.mixup": 0.2, "train.augmentation.cutmix": 0.5},
        ("train.augmentation.mixup: 0.2", "train.augmentation.cutmix 0.5"),
    ),
    "a crop that misses the image": (
        {"data.image_size": 16, "train.augmentation.crop_padding": 16},
        ("train.augmentation.crop_padding: 16", "16 pixels (data.image_size)"),
    ),
    "a crop that misses an image of the source's own size": (
        {
            "data.name": "digits",  # of 8 pixels
            "data.image_size": None,
            "train.augmentation.crop_padding": 8,
            "train.augmentation.hue": 0,
            "train.augmentation.saturation": 0,
        },
        ("train.augmentation.crop_padding: 8", "8 pixels (data.image_size)"),
    ),
    "saturation of grey images": (
        {"data.name": "digits", "train.augmentation.hue": 0},
        ("train.augmentation.saturation: 0.2", "data.name 'digits'"),
    ),
    "hue of grey images": (
        {"data.name": "fashion_mnist", "train.augmentation.saturation": 0},
        ("train.augmentation.hue: 0.1", "data.name 'fashion_mnist'"),
    ),
    "ImageNet's colours for grey images": (
        {
            "data.name": "digits",
            "data.normalisation": "imagenet",
            "train.augmentation.hue": 0,
            "train.augmentation.saturation": 0,
        },
        ("data.normalisation: 'imagenet'", "data.name 'digits'"),
    ),
    "a mean of three channels for grey images": (
        {
            "data.name": "fashion_mnist",
            "data.normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.2]},
            "train.augmentation.hue": 0,
            "train.augmentation.saturation": 0,
        },
        ("data.normalisation.mean: [0.5, 0.5, 0.5] has 3 numbers", "data.name 'fashion_mnist'"),
    ),
    "a std of one channel for RGB images": (
        {"data.normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.2]}},
        ("data.normalisation.std: [0.2] has 1 number", "data.name 'cifar10'"),
    ),
    "folds without a run": (
        {"split.folds": 4},
        ("seeds: [0, 1, 2, 3, 4]", "split.folds 4"),
    ),
    "runs without a fold": (
        {"split.folds": 2},
        ("seeds: [0, 1, 2, 3, 4]", "split.folds 2"),
    ),
    "a stride over what the kernel sees": (
        {"architectures.cnn.stride": 4},
        ("architectures.cnn.stride: 4", "architectures.cnn.kernel_size of 3"),
    ),
    "more padding than kernel": (
        {"architectures.cnn.padding": 3},
        ("architectures.cnn.padding: 3", "architectures.cnn.kernel_size of 3"),
    ),
    "groups that don't divide the channels": (
        {"architectures.cnn.groups": 5},
        ("architectures.cnn.groups: 5", "32 channels (from channels)"),
    ),
    "norm groups that don't divide the channels": (
        {"architectures.cnn.normalisation": "group", "architectures.cnn.norm_groups": 12},
        ("architectures.cnn.norm_groups: 12", "32 channels (from channels)"),
    ),
    "norm groups that don't divide a dense layer": (
        {"architectures.densenet.normalisation": "group", "architectures.densenet.norm_groups": 8},
        ("architectures.densenet.norm_groups: 8", "(from growth_rate, num_init_features,"),
    ),
    "heads that don't divide the channels": (
        {"architectures.cnn.attention": "self_attention", "architectures.cnn.heads": 6},
        ("architectures.cnn.heads: 6", "32 channels (from channels)"),
    ),
    "heads that don't divide the block with attention": (
        {
            "architectures.cnn.channels": [32, 64, 18],
            "architectures.cnn.attention": "self_attention",
            "architectures.cnn.attention_at": [1, 3],
            "architectures.cnn.heads": 4,
        },
        ("architectures.cnn.heads: 4", "18 channels (from channels)"),
    ),
    "heads that don't divide what transitions give": (
        {
            "architectures.densenet.attention": "self_attention",
            "architectures.densenet.attention_at": "transitions",
            "architectures.densenet.block_config": [3, 3],
            "architectures.densenet.heads": 4,
        },
        ("architectures.densenet.heads: 4", "30 channels (from growth_rate, num_init_features,"),
    ),
    "attention in a block that isn't there": (
        {"architectures.cnn.attention": "eca", "architectures.cnn.attention_at": [3, 4]},
        ("architectures.cnn.attention_at: there is no block 4", "architectures.cnn.channels"),
    ),
    "attention at transitions that aren't there": (
        {
            "architectures.densenet.attention": "eca",
            "architectures.densenet.attention_at": "transitions",
            "architectures.densenet.block_config": [6],
        },
        ("architectures.densenet.attention_at: 'transitions'", "block_config [6]"),
    ),
    "heads that don't divide the growth rate": (
        {"architectures.densenet.attention": "self_attention", "architectures.densenet.heads": 5},
        ("architectures.densenet.heads: 5", "12 channels (from growth_rate)"),
    ),
}


@pytest.mark.parametrize("name", CONFLICTING)
def test_conflicting_settings_are_refused_by_both_names(name: str) -> None:
    changes, (one, other) = CONFLICTING[name]
    with pytest.raises(InputError) as error:
        check(changed(changes))
    message = str(error.value)
    assert message.startswith("params.yaml: ")
    assert one in message
    assert other in message
    assert "\n" not in message


AGREEING: dict[str, dict[str, object]] = {
    "smoothed labels with cross entropy": {"train.label_smoothing": 0.1},
    "a warm-up shorter than the run": {"train.epochs": 5, "train.warmup_epochs": 4},
    "two images for each process": {"train.processes": 8, "train.batch_size": 16},
    "patience after the plateau's": {"train.early_stopping": 6, "train.plateau.patience": 5},
    "early stopping without a plateau": {"train.early_stopping": 1, "train.schedule": "cosine"},
    "a step before the end": {
        "train.schedule": "step",
        "train.epochs": 31,
        "train.step.every": 30,
    },
    "a resized crop alone": {
        "train.augmentation.random_resized_crop": 0.5,
        "train.augmentation.crop_padding": 0,
    },
    "mixup alone": {"train.augmentation.mixup": 0.2},
    "a run for each fold": {"split.folds": 5},
    "a mean of three channels for RGB images": {
        "data.normalisation": {"mean": [0, 0.5, 1], "std": [0.2, 0.2, 1]}
    },
    "a mean of one channel for grey images": {
        "data.name": "fashion_mnist",
        "data.normalisation": {"mean": [0.5], "std": [0.2]},
        "train.augmentation.hue": 0,
        "train.augmentation.saturation": 0,
    },
    "a stride of what the kernel sees": {
        "architectures.cnn.stride": 3,
        "data.image_size": 208,
    },
    "a wide stride with a dilated kernel": {
        "architectures.cnn.stride": 4,
        "architectures.cnn.dilation": 2,
        "data.image_size": 512,
    },
    "groups that divide": {"architectures.cnn.groups": 16},
    "norm groups that divide": {"architectures.cnn.normalisation": "group"},
    "norm groups of a DenseNet": {"architectures.densenet.normalisation": "group"},
    "heads that divide": {"architectures.cnn.attention": "self_attention"},
    "heads that divide the one block with attention": {
        "architectures.cnn.channels": [32, 64, 18],
        "architectures.cnn.attention": "self_attention",
        "architectures.cnn.attention_at": [2],
        "architectures.cnn.heads": 64,
    },
    "heads that divide what blocks give": {
        "architectures.densenet.attention": "self_attention",
        "architectures.densenet.attention_at": "blocks",
        "architectures.densenet.block_config": [3, 3],
        "architectures.densenet.heads": 6,
    },
    "attention in the last block": {
        "architectures.cnn.attention": "eca",
        "architectures.cnn.attention_at": [3],
    },
    "a place for no attention": {"architectures.cnn.attention_at": [9]},
}


@pytest.mark.parametrize("name", AGREEING)
def test_agreeing_neighbour_is_accepted(name: str) -> None:
    check(changed(AGREEING[name]))


def test_divisors_that_would_do_are_listed() -> None:
    changes = {
        "architectures.densenet.normalisation": "group",
        "architectures.densenet.norm_groups": 4,
        "architectures.densenet.block_config": [3, 3, 3],
    }
    # channels 24, 36, 48, 60; 30, 42, 54, 66; 33, 45, 57, 69; and 48 in the bottlenecks
    with pytest.raises(InputError, match="1, 3 would do"):
        check(changed(changes))


def test_all_conflicts_are_reported_at_once() -> None:
    changes = {"train.warmup_epochs": 50, "architectures.cnn.groups": 5}
    with pytest.raises(InputError) as error:
        check(changed(changes))
    assert str(error.value).count("params.yaml: ") == 2
