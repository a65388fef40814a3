"""Wrong settings are refused with one line that says what, where and what would be right."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import presets
from pipeline.settings.load import check, load
from pipeline.system.errors import InputError

CONTENT = presets.values("digits")


def changed(path: str, value: object) -> dict[str, Any]:
    """The shipped settings with the one at `path` set to `value`."""
    content = copy.deepcopy(CONTENT)
    *parents, last = path.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    section[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "model",
            "se_densnet",
            "params.yaml: model: 'se_densnet' is not one of cnn, static_cnn, ca_cnn, densenet, "
            "se_densenet (did you mean 'se_densenet'?)",
        ),
        (
            "train.optimizer",
            "adamm",
            "params.yaml: train.optimizer: 'adamm' is not one of adam, adamw, sgd "
            "(did you mean 'adam'?)",
        ),
        (
            "train.epoch",
            3,
            "params.yaml: train.epoch: no such setting (did you mean 'epochs'?)",
        ),
        (
            "architectures.cnn.activation",
            "swish",
            "params.yaml: architectures.cnn.activation: 'swish' is not one of relu, leaky_relu, "
            "elu, gelu, silu, mish, tanh, sigmoid (did you mean 'silu'?)",
        ),
        (
            "train.schedule",
            "Cosine",
            "params.yaml: train.schedule: 'Cosine' is not one of fixed, plateau, step, cosine, "
            "one_cycle (did you mean 'cosine'?)",
        ),
        (
            "architectures.densenet.activation",
            "GELU",
            "params.yaml: architectures.densenet.activation: 'GELU' is not one of relu, "
            "leaky_relu, elu, gelu, silu, mish, tanh, sigmoid (did you mean 'gelu'?)",
        ),
        (
            "architectures.densenet.pooling",
            "average",
            "params.yaml: architectures.densenet.pooling: no such setting in family densenet, only "
            "in cnn",
        ),
        (
            "architectures.densenet.bn_sise",
            4,
            "params.yaml: architectures.densenet.bn_sise: no such setting "
            "(did you mean 'bn_size'?)",
        ),
        ("modle", "cnn", "params.yaml: modle: no such setting (did you mean 'model'?)"),
        (
            "train.augmentation.rotatoin",
            5,
            "params.yaml: train.augmentation.rotatoin: no such setting (did you mean 'rotation'?)",
        ),
        (
            "architectures.cnn.kernelsize",
            3,
            "params.yaml: architectures.cnn.kernelsize: no such setting "
            "(did you mean 'kernel_size'?)",
        ),
        (
            "architectures.cnn.family",
            "densnet",
            "params.yaml: architectures.cnn.family: 'densnet' is not one of cnn, densenet, "
            "torchvision, timm (did you mean 'densenet'?)",
        ),
        (
            "architectures.ca_cnn.baseline",
            "ccn",
            "params.yaml: architectures.ca_cnn.baseline: 'ccn' is not one of cnn, static_cnn, "
            "densenet, se_densenet (did you mean 'cnn'?)",
        ),
        (
            "architectures.ca_cnn.baseline",
            ["cnn", "cnn"],
            "params.yaml: architectures.ca_cnn.baseline: 'cnn' stands there twice; once is enough",
        ),
        (
            "architectures.ca_cnn.baseline",
            ["cnn", "ccn"],
            "params.yaml: architectures.ca_cnn.baseline: 'ccn' is not one of cnn, static_cnn, "
            "densenet, se_densenet (did you mean 'cnn'?)",
        ),
        (
            "architectures.ca_cnn.baseline",
            "ca_cnn",
            "params.yaml: architectures.ca_cnn.baseline: 'ca_cnn' can't be its own baseline",
        ),
        *(
            (
                "architectures.ca_cnn.baseline",
                value,
                f"params.yaml: architectures.ca_cnn.baseline: {value} is neither the name of an "
                "architecture nor a list of 1 to 10 names, such as [cnn]",
            )
            for value in (5, ["cnn", 5], [])
        ),
        (
            "data.path",
            "~/photos",
            "params.yaml: data.path: '~/photos': ~ is not expanded; write the full path",
        ),
        (
            "train.epochs",
            -3,
            "params.yaml: train.epochs: -3: input should be greater than or equal to 1",
        ),
        ("train", None, "params.yaml: train: None: expected a mapping of settings"),
        (
            "data.normalisation",
            "imagnet",
            "params.yaml: data.normalisation: 'imagnet' is not one of training, imagenet "
            "(did you mean 'imagenet'?)",
        ),
        (
            "data.normalisation",
            {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0, 0.2]},
            "params.yaml: data.normalisation.std.1: 0: input should be greater than 0",
        ),
        (
            "data.normalisation",
            {"mean": [0.5, 127, 0.5], "std": [0.2, 0.2, 0.2]},
            "params.yaml: data.normalisation.mean.1: 127: input should be less than or equal to 1",
        ),
        (
            "data.normalisation",
            {"mean": [0.5], "std": [0.2], "sdt": [0.2]},
            "params.yaml: data.normalisation.sdt: no such setting",
        ),
        (
            "data.name",
            "cifar-10",
            "params.yaml: data.name: 'cifar-10' is not one of digits, cifar10, cifar100, "
            "fashion_mnist, image_folder (did you mean 'cifar10'?)",
        ),
        (
            "train.loss",
            "cross_entrpy",
            "params.yaml: train.loss: 'cross_entrpy' is not one of cross_entropy, mse "
            "(did you mean 'cross_entropy'?), nor the dotted path of a function, such as "
            "pipeline.training.losses.focal",
        ),
        (
            "report.ensembles",
            ["folds"],
            "params.yaml: report.ensembles.0: 'folds' is not one of seeds, architectures",
        ),
        (
            "seeds",
            [0, 1, 0],
            "params.yaml: seeds: 0 is listed twice; every seed is one training run",
        ),
    ],
)
def test_wrong_setting_is_named_with_what_would_be_right(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(InputError) as error:
        check(changed(path, value))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.learning_rate", float("nan")),
        ("train.learning_rate", float("inf")),
        ("train.learning_rate", "0.001"),
        ("train.epochs", 2.5),
        ("train.epochs", True),
        ("seeds", []),
        ("seeds", [-1]),
        ("seeds", [0, 2**32]),
        ("seeds", [10**300]),
        ("explain.seed", 10**300),
        ("report.seed", 10**300),
        ("architectures", {}),
        ("architectures.cnn.channels", []),
        ("architectures.cnn.channels", [10**12]),
        ("architectures.cnn.heads", 10**9),
        ("architectures.densenet.block_config", [10**9, 2]),
        ("architectures.densenet.growth_rate", 10**400),
        ("split.folds", 10**30),
        ("train.learning_rate", 1e300),
        ("train.weight_decay", 1e39),
        ("train.augmentation.random_resized_crop", 1.0),
        ("architectures.cnn.dropout", 1.0),
        ("architectures.densenet.compression", 0),
        ("split.test_fraction", 1),
        ("compute.threads", 0),
        ("report.confidence", 95),
    ],
)
def test_value_out_of_range_is_refused_by_its_name(path: str, value: object) -> None:
    with pytest.raises(InputError, match=path.replace(".", r"\.")):
        check(changed(path, value))


def test_all_mistakes_are_reported_on_one_line() -> None:
    content = changed("train.epochs", 0)
    content["modle"] = "cnn"
    del content["seeds"]
    with pytest.raises(InputError) as error:
        check(content)
    message = str(error.value)
    assert "\n" not in message
    assert "train.epochs: 0" in message
    assert "modle: no such setting" in message
    assert "seeds: is missing" in message


@pytest.mark.parametrize(
    "name", ["a b", "Cnn", "../cnn", "cnn; rm -rf .", "$(id)", "0cnn", "", "é", 65 * "a"]
)
def test_name_that_could_reach_a_shell_or_a_path_is_refused(name: str) -> None:
    content = copy.deepcopy(CONTENT)
    content["architectures"][name] = CONTENT["architectures"]["cnn"]
    with pytest.raises(InputError, match="no name for an architecture"):
        check(content)


def test_own_images_need_a_size() -> None:
    content = changed("data.name", "image_folder")
    content["data"]["image_size"] = None
    with pytest.raises(InputError, match=r"^params\.yaml: data\.image_size: own images"):
        check(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "params.yaml: line 2: not valid YAML"),
        ("a: 1\na: 2\n", "params.yaml: line 2: not valid YAML: found duplicate key"),
        ("- 1\n", "params.yaml: expected a mapping of settings, found a list"),
        ("", "params.yaml: expected a mapping of settings, found nothing"),
        ("cnn\n", "params.yaml: expected a mapping of settings, found a single value"),
        ("a: 1\nb: 2001-99-99\n", "params.yaml: line 2: not valid YAML: '2001-99-99': month must"),
        ("a: !!float x\n", "params.yaml: line 1: not valid YAML: 'x': could not convert"),
        ("%YAML 1.1\n---\na: 010\n", "params.yaml: '%YAML 1.1': DVC reads YAML 1.2 whatever"),
        ("# first\n%YAML  1.1  # so\n---\na: 1\n", "params.yaml: '%YAML  1.1  # so': DVC reads"),
        ("a: *b\n", "params.yaml: line 1: not valid YAML: found undefined alias"),
    ],
)
def test_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load(path)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"model: caf\xe9\n")
    with pytest.raises(InputError, match=r"params\.yaml: can't be read: 'utf-8' codec"):
        load(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: no such file"):
        load(tmp_path / "params.yaml")


def test_merge_keys_are_resolved() -> None:
    architectures = load(Path(__file__).parents[2] / "params.yaml").architectures
    plain, attention = architectures["cnn"].model_dump(), architectures["ca_cnn"].model_dump()
    differing = {key for key in plain if plain[key] != attention[key]}
    assert differing == {"attention", "baseline"}
