"""Settings that are right one by one and conflict. Each rule names both, and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from pipeline.settings.image_sizes import Geometry, Norm, cnn_obstacle, densenet_obstacle
from pipeline.settings.schema import Cnn, DenseNet, MeanStd, Settings, Train
from pipeline.system.errors import shown
from pipeline.system.text import plural

LIBRARIES = ("torchvision", "timm")  # families
FROM_MINUS_ONE = ("googlenet", "inception_v3")  # torchvision scales their inputs for its weights
GREY = ("digits", "fashion_mnist")
MOST_LISTED = 20  # numbers
OWN_SIZES = {"digits": 8, "cifar10": 32, "cifar100": 32, "fashion_mnist": 28}  # in pixels


def conflicts(settings: Settings) -> list[str]:
    """Return what contradicts itself in settings that are valid one by one; empty if nothing."""
    image_size = settings.data.image_size or OWN_SIZES.get(settings.data.name)
    found = [*_recipe(settings.train), *_weights(settings), *_data(settings, image_size)]
    if image_size is None:
        return found
    for name, architecture in settings.architectures.items():
        if architecture.family == "cnn":
            found += _cnn(architecture, f"architectures.{name}", image_size)
        elif architecture.family == "densenet":
            found += _densenet(architecture, f"architectures.{name}", image_size)
    return found


def _recipe(train: Train) -> Iterator[str]:
    if train.label_smoothing and train.loss != "cross_entropy":
        yield (
            f"train.label_smoothing: {train.label_smoothing:g} is for train.loss cross_entropy, "
            f"not '{train.loss}'; set it to 0"
        )
    if train.class_weights != "none" and train.loss != "cross_entropy":
        yield (
            f"train.class_weights: '{train.class_weights}' is for train.loss cross_entropy, not "
            f"'{train.loss}'; set it to none"
        )
    if train.warmup_epochs >= train.epochs:
        yield (
            f"train.warmup_epochs: {train.warmup_epochs} leaves nothing of train.epochs "
            f"{train.epochs} for the schedule; make it smaller"
        )
    if train.processes > (train.batch_size + 1) // 2:
        yield (
            f"train.processes: {train.processes} share a train.batch_size of {train.batch_size}, "
            f"two images or more each; make it {(train.batch_size + 1) // 2} or less"
        )
    stops = train.early_stopping
    if stops is not None and train.schedule == "plateau" and stops <= train.plateau.patience:
        yield (
            f"train.early_stopping: {stops} ends the run before train.plateau.patience "
            f"{train.plateau.patience} lets the learning rate fall; make it larger than that"
        )
    scheduled = train.epochs - train.warmup_epochs
    if train.schedule == "step" and 0 < scheduled <= train.step.every:
        yield (
            f"train.step.every: {train.step.every} leaves none of train.epochs {train.epochs} in "
            "which the learning rate has fallen; make it smaller"
        )
    augmentation = train.augmentation
    if augmentation.random_resized_crop and augmentation.crop_padding:
        yield (
            f"train.augmentation.crop_padding: {augmentation.crop_padding} and "
            f"train.augmentation.random_resized_crop {augmentation.random_resized_crop:g} both "
            "crop; set one of them to 0"
        )
    if augmentation.mixup and augmentation.cutmix:
        yield (
            f"train.augmentation.mixup: {augmentation.mixup:g} and train.augmentation.cutmix "
            f"{augmentation.cutmix:g} both mix images and labels; set one of them to 0"
        )


def _weights(settings: Settings) -> Iterator[str]:
    given = settings.data.normalisation
    is_from_minus_one = isinstance(given, MeanStd) and {*given.mean, *given.std} == {0.5}
    for name, architecture in settings.architectures.items():
        where = f"architectures.{name}"
        if architecture.weights == "default" and architecture.family not in LIBRARIES:
            yield (
                f"{where}.weights: 'default' is for {' and '.join(LIBRARIES)}; name a file, such "
                "as data/trained/cnn/0/model.safetensors of another project"
            )
        if (
            architecture.weights == "default"
            and architecture.family == "torchvision"
            and architecture.name in FROM_MINUS_ONE
            and not is_from_minus_one
        ):
            yield (
                f"{where}.weights: 'default' of {architecture.name} was trained on pixels from -1 "
                "to 1; set data.normalisation to {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}, or "
                "take another network"
            )
        if architecture.sha256 is not None and architecture.weights is None:
            yield f"{where}.sha256: is of a file, but {where}.weights names none; remove it"
    if not any(architecture.weights for architecture in settings.architectures.values()):
        for key, usual in (("freeze", 0), ("body_rate", 1.0)):
            value = getattr(settings.train, key)
            if value != usual:
                yield (
                    f"train.{key}: {value:g} is for networks that start from weights, but no "
                    f"architecture has any; set it to {usual:g}"
                )


def _data(settings: Settings, image_size: int | None) -> Iterator[str]:
    data, augmentation = settings.data, settings.train.augmentation
    if data.name in GREY:
        for key in ("saturation", "hue"):
            value = getattr(augmentation, key)
            if value:
                yield (
                    f"train.augmentation.{key}: {value:g} changes colours, but the images of "
                    f"data.name '{data.name}' are grey; set it to 0"
                )
        if data.normalisation == "imagenet":
            yield (
                "data.normalisation: 'imagenet' is for RGB images, but those of data.name "
                f"'{data.name}' are grey; use 'training'"
            )
    if isinstance(data.normalisation, MeanStd):
        channels, colours = (1, "grey") if data.name in GREY else (3, "RGB")
        for key, values in data.normalisation:
            if len(values) != channels:
                yield (
                    f"data.normalisation.{key}: {values} has {plural(len(values), 'number')}, but "
                    f"the images of data.name '{data.name}' are {colours}; give {channels}"
                )
    if data.path.startswith("~"):
        yield f"data.path: {shown(data.path)}: ~ is not expanded; write the full path"
    if data.labels is not None:
        if data.name != "image_folder":
            yield (
                f"data.labels: {shown(data.labels)} is for data.name image_folder, but "
                f"'{data.name}' has its own; set it to null"
            )
        labels = PurePath(data.labels)
        if labels.is_absolute() or ".." in labels.parts:
            yield (
                f"data.labels: {shown(data.labels)} has to lie in data.path, so that DVC sees it "
                "change; put it there and write its path within that folder"
            )
    if image_size is None:
        yield "data.image_size: own images come in many sizes; set one in pixels, such as 224"
    elif augmentation.crop_padding >= image_size:
        yield (
            f"train.augmentation.crop_padding: {augmentation.crop_padding} can move an image of "
            f"{image_size} pixels (data.image_size) out of sight; make it smaller"
        )
    folds = settings.split.folds
    if folds is not None and sorted(settings.seeds) != list(range(folds)):
        yield (
            f"seeds: {_listed(settings.seeds)}, but split.folds {folds} needs one run for each "
            f"fold, since run r holds out fold r: seeds: {_listed(range(folds))}"
        )


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) <= MOST_LISTED:
        return str(list(numbers))
    return f"[{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}]"


def _cnn(cnn: Cnn, where: str, image_size: int) -> Iterator[str]:
    geometry = Geometry.of(cnn.kernel_size, cnn.stride, cnn.padding, cnn.dilation)
    seen = geometry.seen
    if cnn.stride > seen:
        yield (
            f"{where}.stride: {cnn.stride} skips pixels that a {where}.kernel_size of "
            f"{cnn.kernel_size} (dilation {cnn.dilation}) never sees; make it {seen} or less"
        )
    if cnn.padding is not None and cnn.padding >= seen:
        yield (
            f"{where}.padding: {cnn.padding} lets a {where}.kernel_size of {cnn.kernel_size} "
            f"(dilation {cnn.dilation}) see nothing but padding; make it less than {seen}"
        )
    yield from _divides(cnn.groups, f"{where}.groups", cnn.channels, "channels")
    if cnn.normalisation == "group":
        yield from _divides(cnn.norm_groups, f"{where}.norm_groups", cnn.channels, "channels")
    numbers = range(1, len(cnn.channels) + 1)
    attended = numbers if cnn.attention_at == "all" else cnn.attention_at
    missing = [number for number in attended if number not in numbers]
    if cnn.attention != "none" and missing:
        yield (
            f"{where}.attention_at: there is no block {missing[0]} among the {len(numbers)} of "
            f"{where}.channels; they are counted from 1"
        )
    if cnn.attention == "self_attention":
        widths = [cnn.channels[number - 1] for number in attended if number in numbers]
        yield from _divides(cnn.heads, f"{where}.heads", widths, "channels")
    norm = Norm(cnn.normalisation, cnn.norm_groups)
    obstacle = cnn_obstacle(image_size, cnn.channels, geometry, norm, cnn.pooling)
    if obstacle:
        yield f"{where}: {obstacle}"


def _densenet(densenet: DenseNet, where: str, image_size: int) -> Iterator[str]:
    channels, growth_rate = densenet.num_init_features, densenet.growth_rate
    bottleneck = densenet.bn_size * growth_rate
    widths = [bottleneck]  # channels of every feature map that is normalised
    of_transitions, of_blocks = [], []  # channels that they give
    for number, layers in enumerate(densenet.block_config):
        if number:
            channels = max(1, int(channels * densenet.compression))
            of_transitions.append(channels)
        narrowest = min(bottleneck, channels)  # of the last block, after the loop
        widths += [channels + growth_rate * layer for layer in range(layers + 1)]
        channels += growth_rate * layers
        of_blocks.append(channels)
    causes = "growth_rate, num_init_features, compression"
    if densenet.normalisation == "group":
        yield from _divides(densenet.norm_groups, f"{where}.norm_groups", widths, causes)
    attended, why = {
        "layers": ([growth_rate], "growth_rate"),
        "transitions": (of_transitions, causes),
        "blocks": (of_blocks, causes),
    }[densenet.attention_at]
    if densenet.attention != "none" and not attended:
        yield (
            f"{where}.attention_at: 'transitions' stand between blocks, and there is one block in "
            f"{where}.block_config {densenet.block_config}; use 'blocks'"
        )
    if densenet.attention == "self_attention":
        yield from _divides(densenet.heads, f"{where}.heads", attended, why)
    norm = Norm(densenet.normalisation, densenet.norm_groups)
    obstacle = densenet_obstacle(
        image_size, densenet.block_config, densenet.small_inputs, narrowest, norm
    )
    if obstacle:
        yield f"{where}: {obstacle}"


def _divides(value: int, where: str, widths: Sequence[int], causes: str) -> Iterator[str]:
    wrong = next((width for width in widths if width % value), None)
    if wrong is not None:
        common = math.gcd(*widths)
        possible = [str(number) for number in range(1, common + 1) if common % number == 0]
        yield (
            f"{where}: {value} does not divide {wrong} channels (from {causes}); "
            f"of these settings {', '.join(possible)} would do"
        )
