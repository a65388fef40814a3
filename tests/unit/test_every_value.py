"""Every value of every part and technique trains one step, through the command line.

The rows are those of a survey of convolutional networks: convolution, activation, pooling,
normalisation, attention, preprocessing, augmentation, splits, loss, optimiser, learning rate,
regularisation and evaluation. Each value is set in params.yaml and run by `python -m pipeline`'s
own entry point, on a folder of small colour images; only the start of the interpreter is saved.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from pipeline.cli import main
from pipeline.settings import presets

CLASSES = ("disc", "square", "stripes")
PER_CLASS = 14
SIZE = 16

Weights = dict[str, np.ndarray]


def drawn(kind: str, random: np.random.Generator) -> Image.Image:
    """An image of a disc, a square or stripes, in a random colour on a random ground."""
    row, column = np.mgrid[:20, :24]
    shape = {
        "disc": (row - 10) ** 2 + (column - 12) ** 2 < 50,
        "square": (abs(row - 10) < 6) & (abs(column - 12) < 6),
        "stripes": column % 6 < 3,
    }[kind]
    ink, ground = random.integers(0, 256, (2, 3))
    return Image.fromarray(np.where(shape[..., None], ink, ground).astype(np.uint8))


def command(*arguments: str) -> None:
    """Run a command line as ``python -m pipeline`` would; it must succeed."""
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(arguments))
    assert ended.value.code == 0


def settings(changes: dict[str, Any]) -> dict[str, Any]:
    """The smoke preset for the test's own images, one step long, with some settings changed."""
    content = presets.values("smoke")
    content["data"] |= {"name": "image_folder", "path": "shapes", "image_size": SIZE}
    content["split"]["max_per_class"] = None
    content["train"] |= {"epochs": 1, "batch_size": 256}
    content["compute"]["precision"] = "fp32"
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    return content


def write(changes: dict[str, Any]) -> None:
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(settings(changes), file)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of each class."""
    folder = tmp_path_factory.mktemp("images") / "shapes"
    random = np.random.default_rng(0)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(PER_CLASS):
            drawn(kind, random).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def splits(images: Path) -> Path:
    """The folder of the images, with the splits of the unchanged settings beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(images.parent)
        write({})
        command("download")
        command("split")
    return images.parent / "data" / "splits"


@pytest.fixture
def workplace(splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, with the images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").symlink_to(splits.parents[1] / "shapes")
    return tmp_path


ATTENTIONS = (
    *("none", "channel", "static", "spatial", "cbam"),
    *("eca", "coordinate", "simam", "self_attention"),
)

# SPEC's rows: what must be selectable, each value by the settings that select it.
CNN: dict[str, dict[str, Any]] = {
    "kernel size 3": {"kernel_size": 3},
    "kernel size 5": {"kernel_size": 5},
    "stride": {"stride": 2},
    "padding": {"padding": 2},
    "no padding": {"padding": 0},
    "dilation": {"dilation": 2},
    "groups": {"groups": 4},
    **{
        f"activation {name}": {"activation": name}
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "mish", "elu", "gelu")
    },
    **{
        f"pooling {name}": {"pooling": name}
        for name in ("max", "average", "strided_conv", "dilated_conv", "none")
    },
    "global average pooling as the head": {"head": "global_average"},
    **{
        f"normalisation {name}": {"normalisation": name}
        for name in ("batch", "layer", "instance", "group")
    },
    **{f"attention {name}": {"attention": name} for name in ATTENTIONS},
    **{
        f"attention in {blocks}": {"attention": "channel", "attention_at": blocks}
        for blocks in ("all", [1], [2], [1, 2])
    },
    "dropout": {"dropout": 0.9},
}

DENSENET: dict[str, dict[str, Any]] = {
    **{
        f"activation {name}": {"activation": name}
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "mish", "elu", "gelu")
    },
    **{
        f"normalisation {name}": {"normalisation": name}
        for name in ("batch", "layer", "instance", "group")
    },
    **{f"attention {name}": {"attention": name} for name in ATTENTIONS},
    **{
        f"attention at {place}": {"attention": "channel", "attention_at": place}
        for place in ("layers", "transitions", "blocks")
    },
    "efficient": {"efficient": True},
    "dropout": {"drop_rate": 0.5},
    "large stem": {"small_inputs": False},
}

TECHNIQUES: dict[str, dict[str, Any]] = {
    "rotation": {"augmentation.rotation": 30},
    "random resized crop": {
        "augmentation.random_resized_crop": 0.3,
        "augmentation.crop_padding": 0,
    },
    "random crop with padding": {"augmentation.crop_padding": 3},
    "horizontal flip": {"augmentation.horizontal_flip": 0.5},
    "brightness": {"augmentation.brightness": 0.3},
    "contrast": {"augmentation.contrast": 0.3},
    "saturation": {"augmentation.saturation": 0.3},
    "hue": {"augmentation.hue": 0.2},
    "random erasing": {"augmentation.random_erasing": 1.0},
    "cutmix": {"augmentation.cutmix": 1.0},
    "mixup": {"augmentation.mixup": 0.4},
    "cross entropy": {"loss": "cross_entropy"},
    "label smoothing": {"label_smoothing": 0.1},
    "class weights": {"class_weights": "balanced"},
    "class weights with mixup": {"class_weights": "balanced", "augmentation.mixup": 0.4},
    "mean squared error": {"loss": "mse"},
    "custom loss": {"loss": "pipeline.training.losses.focal"},
    "mean squared error with cutmix": {"loss": "mse", "augmentation.cutmix": 1.0},
    "mean squared error with mixup": {"loss": "mse", "augmentation.mixup": 1.0},
    "custom loss with cutmix": {
        "loss": "pipeline.training.losses.focal",
        "augmentation.cutmix": 1.0,
    },
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
    "sgd without momentum": {"optimizer": "sgd", "momentum": 0.0},
    "sgd without looking ahead": {"optimizer": "sgd", "nesterov": False},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "fixed": {"schedule": "fixed"},
    "cosine annealing": {"schedule": "cosine"},
    "reduce on plateau": {"schedule": "plateau"},
    "step": {"schedule": "step", "step.every": 1, "epochs": 3},
    "one cycle": {"schedule": "one_cycle", "epochs": 4},
    **{
        f"warm-up before {name}": {
            "schedule": name,
            "warmup_epochs": 1,
            "epochs": 5,
            "step.every": 2,
        }
        for name in ("fixed", "plateau", "step", "cosine", "one_cycle")
    },
    "L1": {"l1": 1e-4},
    "L2": {"weight_decay": 1e-3},
    "clipped gradients": {"clip_norm": 0.01},
    "averaged weights": {"ema": 0.9},
    "early stopping": {"early_stopping": 4},
}

EVERYTHING = {
    **{
        f"cnn, {name}": ("cnn", {f"architectures.cnn.{key}": value for key, value in new.items()})
        for name, new in CNN.items()
    },
    **{
        f"densenet, {name}": (
            "densenet",
            {f"architectures.densenet.{key}": value for key, value in new.items()},
        )
        for name, new in DENSENET.items()
    },
    **{
        name: ("ca_cnn", {f"train.{key}": value for key, value in new.items()})
        for name, new in TECHNIQUES.items()
    },
    "bf16": ("cnn", {"compute.precision": "bf16"}),
}


# What a first step doesn't show: when the learning rate falls, when a run stops, what is averaged
# over steps, and the recomputed bottlenecks, whose results are the same.
LATER = {
    "fixed",
    "cosine annealing",
    "early stopping",
    "averaged weights",
    "densenet, efficient",
}


@pytest.fixture(scope="module")
def unchanged(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Weights]:
    """The weights that the unchanged settings give."""
    folder = tmp_path_factory.mktemp("unchanged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write({})
        for model in ("cnn", "ca_cnn", "densenet"):
            command("train", "--model", model, "--seed", "0", "--splits", str(splits))
    return {
        path.parents[1].name: load_file(path)
        for path in folder.glob("data/trained/*/0/model.safetensors")
    }


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(tensor, other[key]) for key, tensor in one.items()
    )


@pytest.mark.parametrize("name", EVERYTHING)
def test_value_trains_one_step(
    name: str, splits: Path, unchanged: dict[str, Weights], workplace: Path
) -> None:
    model, changes = EVERYTHING[name]
    write(changes)
    command("train", "--model", model, "--seed", "0", "--splits", str(splits))
    out = workplace / "data" / "trained" / model / "0"
    with (out / "history.csv").open() as file:
        epochs = list(csv.DictReader(file))
    assert len(epochs) == changes.get("train.epochs", 1)
    assert all(np.isfinite(float(epoch["train_loss"])) for epoch in epochs)
    weights = load_file(out / "model.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in weights.values())
    selects_something_else = settings(changes) != settings({}) and name not in LATER
    assert same(weights, unchanged[model]) != selects_something_else
    assert not list(workplace.glob(".cache/checkpoints/*"))


PRETRAINED: dict[str, dict[str, Any]] = {
    "weights": {},
    "frozen weights": {"train.freeze": 1},
    "slow weights": {"train.body_rate": 0.1},
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretrained_weights_train_one_step(
    name: str, splits: Path, unchanged: dict[str, Weights], workplace: Path
) -> None:
    save_file(unchanged["ca_cnn"], "start.safetensors")
    found = []
    for changes in ({}, PRETRAINED[name]):
        content = settings(changes)
        sha256 = hashlib.sha256(Path("start.safetensors").read_bytes()).hexdigest()
        content["architectures"]["ca_cnn"] |= {"weights": "start.safetensors", "sha256": sha256}
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(content, file)
        command("train", "--model", "ca_cnn", "--seed", "0", "--splits", str(splits))
        found.append(load_file(workplace / "data/trained/ca_cnn/0/model.safetensors"))
    assert same(*found) != bool(PRETRAINED[name])
    assert not same(found[0], unchanged["ca_cnn"])
    body = [key for key in found[1] if not key.startswith("classifier.")]
    is_kept = all(np.array_equal(found[1][key], unchanged["ca_cnn"][key]) for key in body)
    assert is_kept == (name == "frozen weights")


GIVEN = {"mean": [0.5, 0.25, 0.125], "std": [0.25, 0.5, 1]}
PREPROCESSING: dict[str, dict[str, Any]] = {
    "resize": {"data.image_size": 24},
    "mean and std of the training split": {"data.normalisation": "training"},
    "ImageNet's mean and std": {"data.normalisation": "imagenet"},
    "given mean and std": {"data.normalisation": GIVEN},
    "train, validation, test": {"split.validation_fraction": 0.3, "split.test_fraction": 0.3},
}


@pytest.mark.parametrize("name", PREPROCESSING)
def test_preprocessing_trains_one_step(name: str, workplace: Path) -> None:
    changes = PREPROCESSING[name]
    write(changes)
    for arguments in (("download",), ("split",), ("train", "--model", "cnn", "--seed", "0")):
        command(*arguments)
    described = json.loads((workplace / "data" / "splits" / "dataset.json").read_text())
    assert described["image_size"] == changes.get("data.image_size", SIZE)
    given = {key: described[key] for key in ("mean", "std")} == GIVEN
    assert given == (changes.get("data.normalisation") == GIVEN)
    assert (workplace / "data" / "trained" / "cnn" / "0" / "model.safetensors").exists()


@pytest.mark.parametrize("folds", [None, 2])
def test_cross_validation_and_ensembles_are_evaluated(folds: int | None, workplace: Path) -> None:
    content = settings({"split.folds": folds})
    for name in ("densenet", "se_densenet"):
        del content["architectures"][name]
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    command("download")
    command("split")
    for model in ("cnn", "ca_cnn"):
        for seed in ("0", "1"):
            command("train", "--model", model, "--seed", seed)
            command("evaluate", "--model", model, "--seed", seed)
        command("explain", "--model", model)
    command("measure")
    command("report")
    with (workplace / "reports" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    ensembles = [row for row in rows if row["kind"] == "ensemble"]
    # over seeds for both architectures, unless each seed has test images of its own; and over both
    assert len(ensembles) == (1 if folds else 3)
    tested = [
        np.load(workplace / "data" / "evaluated" / "cnn" / seed / "logits.npy") for seed in "01"
    ]
    if folds:
        assert sum(map(len, tested)) == PER_CLASS * len(CLASSES)
    else:
        assert len(tested[0]) == len(tested[1])
