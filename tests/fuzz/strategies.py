"""Settings drawn from the schema of params.yaml itself, right ones and broken ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.settings import presets
from pipeline.settings.rules import GREY
from pipeline.settings.schema import Cnn, DenseNet, Library, Settings

Content = dict[str, Any]
Path_ = tuple[str, ...]

LARGEST = 10**12  # of numbers without a bound


IS_CAMPAIGN = settings.default is settings.get_profile("campaign")


def examples(everyday: int, campaign: int) -> Callable[[Any], Any]:
    """How many examples a test draws, in every test run and in a campaign."""
    return settings(max_examples=campaign if IS_CAMPAIGN else everyday)


# What keeps a network so small that it trains in a moment, by class and field.
SMALL: dict[str, SearchStrategy[Any]] = {
    "Settings.model": st.just("candidate"),
    "Train.processes": st.just(1),
    "Settings.seeds": st.lists(st.integers(0, LARGEST), min_size=1, max_size=3, unique=True),
    "Cnn.channels": st.lists(st.sampled_from([4, 8, 12]), min_size=1, max_size=4),
    "Cnn.stride": st.integers(1, 3),
    "Cnn.padding": st.none() | st.integers(0, 5),
    "Cnn.dilation": st.integers(1, 3),
    "Cnn.groups": st.sampled_from([1, 2, 4]),
    "Cnn.norm_groups": st.sampled_from([1, 2, 4]),
    "Cnn.attention_at": st.just("all") | st.lists(st.integers(1, 4), min_size=1, max_size=4),
    "Cnn.heads": st.sampled_from([1, 2, 4]),
    "Cnn.hidden": st.integers(1, 16),
    "DenseNet.growth_rate": st.sampled_from([4, 8]),
    "DenseNet.block_config": st.lists(st.integers(1, 2), min_size=1, max_size=3),
    "DenseNet.num_init_features": st.sampled_from([1, 4, 8]),
    "DenseNet.bn_size": st.integers(1, 2),
    "DenseNet.norm_groups": st.sampled_from([1, 2, 4]),
    "DenseNet.heads": st.sampled_from([1, 2, 4]),
    "Data.image_size": st.none() | st.integers(8, 16),
    "Split.folds": st.none() | st.integers(2, 3),
    "Train.epochs": st.integers(1, 3),
    "Train.loss": st.sampled_from(["cross_entropy", "mse", "pipeline.training.losses.focal"]),
    "Train.learning_rate": st.floats(1e-4, 1.0) | st.floats(1e-300, 1e6),
    "Train.warmup_epochs": st.integers(0, 2),
    "Train.batch_size": st.integers(2, 12) | st.integers(2, 1_000_000),
    "Train.weight_decay": st.floats(0, 0.1) | st.floats(0, 1e6),
    "Train.l1": st.just(0) | st.floats(0, 0.01) | st.floats(0, 1e6),
    "StepDecay.every": st.just(1),
    "OneCycle.pct_start": st.floats(0.4, 0.9) | st.floats(0, 1, exclude_min=True, exclude_max=True),
    "Compute.device": st.just("cpu"),
    "Compute.threads": st.just(1),
}


def drawn(
    annotation: Any,
    constraints: Sequence[Any] = (),
    limits: Mapping[str, SearchStrategy[Any]] = SMALL,
) -> SearchStrategy[Any]:
    """Values that the schema takes: of a type with pydantic's constraints on it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return drawn(arguments[0], [*_constraints(arguments[1:]), *constraints], limits)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of(*(drawn(argument, constraints, limits) for argument in arguments))
    if origin is list:
        shortest, longest = _bound(constraints, MinLen, 0), _bound(constraints, MaxLen, 5)
        return st.lists(
            drawn(arguments[0], (), limits), min_size=shortest, max_size=min(longest, 5)
        )
    if annotation is NoneType:
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(
            max(_bound(constraints, Ge, -LARGEST), _bound(constraints, Gt, -LARGEST) + 1),
            min(_bound(constraints, Le, LARGEST), _bound(constraints, Lt, LARGEST) - 1),
        )
    if annotation is float:
        return st.floats(
            max(_bound(constraints, Ge, -LARGEST), _bound(constraints, Gt, -LARGEST)),
            min(_bound(constraints, Le, LARGEST), _bound(constraints, Lt, LARGEST)),
            exclude_min=any(isinstance(each, Gt) for each in constraints),
            exclude_max=any(isinstance(each, Lt) for each in constraints),
        )
    if annotation is str:
        return PLAIN_TEXT
    assert issubclass(annotation, BaseModel), f"the schema has a type not known here: {annotation}"
    return section(annotation, limits)


def section(
    model: type[BaseModel], limits: Mapping[str, SearchStrategy[Any]] = SMALL
) -> SearchStrategy[Content]:
    """A mapping with every setting of a section of the schema."""
    drawable = {}
    for name, annotation in get_type_hints(model, include_extras=True).items():
        path = f"{model.__name__}.{name}"
        if path in limits:
            drawable[name] = limits[path]
        elif name in model.model_fields and name not in ("architectures", "path", "baseline"):
            drawable[name] = drawn(annotation, (), limits)
    return st.fixed_dictionaries(drawable)


def _constraints(metadata: Sequence[Any]) -> list[Any]:
    """Return the bounds that stand in the metadata of an annotation."""
    return [
        each for one in metadata for each in (one.metadata if isinstance(one, FieldInfo) else [one])
    ]


def _bound(constraints: Sequence[Any], kind: type, without: Any) -> Any:
    """Return the value of a constraint, or what holds without it."""
    names = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MinLen: "min_length", MaxLen: "max_length"}
    return next((getattr(each, names[kind]) for each in constraints if type(each) is kind), without)


# As JSON writes it without surrogate pairs, which YAML doesn't join.
PLAIN_TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=30)

NETWORKS = st.sampled_from(
    ["squeezenet1_1", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
)


def architectures(libraries: bool) -> SearchStrategy[Content]:
    """An entry of `architectures` of any family; library networks take long to make."""
    own = st.one_of(section(Cnn), section(DenseNet))
    return own if not libraries else section(Library, SMALL | {"Library.name": NETWORKS})


@st.composite
def trainable(draw: st.DrawFn, libraries: bool = False) -> Content:
    """Settings whose network trains in a moment, and whose recipe doesn't contradict itself.

    The network may still not fit itself or the images.
    """
    content = draw(section(Settings))
    content["architectures"] = {"candidate": draw(architectures(libraries)) | {"baseline": None}}
    if libraries:
        content["architectures"]["candidate"]["family"] = "torchvision"
    content["data"]["path"] = "."
    return _agreeing(content)


def _agreeing(content: Content) -> Content:
    """Take back what contradicts another setting of the recipe or of the data."""
    data, train, augmentation = content["data"], content["train"], content["train"]["augmentation"]
    data["image_size"] = data["image_size"] or (16 if data["name"] == "image_folder" else None)
    if data["name"] in GREY:
        data["normalisation"] = "training"
        augmentation |= {"saturation": 0, "hue": 0}
    elif isinstance(data["normalisation"], dict):
        data["normalisation"] = {
            key: (values or [0.5])[:1] * 3 for key, values in data["normalisation"].items()
        }
    if augmentation["random_resized_crop"]:
        augmentation["crop_padding"] = 0
    if augmentation["cutmix"]:
        augmentation["mixup"] = 0
    augmentation["crop_padding"] = min(augmentation["crop_padding"], (data["image_size"] or 8) - 1)
    if train["loss"] != "cross_entropy":
        train["label_smoothing"] = 0
    train["warmup_epochs"] = min(train["warmup_epochs"], train["epochs"] - 1)
    if train["schedule"] == "step" and train["epochs"] - train["warmup_epochs"] < 2:
        train["schedule"] = "fixed"
    if train["schedule"] == "plateau":
        train["early_stopping"] = None
    if content["split"]["folds"]:
        content["seeds"] = list(range(content["split"]["folds"]))
    return content


@st.composite
def unlimited(draw: st.DrawFn) -> Content:
    """Settings as large as the schema lets them be; only to be checked."""
    content = draw(section(Settings, {}))
    names = ("candidate", "other")
    entries = st.one_of(section(Cnn, {}), section(DenseNet, {}), section(Library, {}))
    content["architectures"] = {name: draw(entries) | {"baseline": None} for name in names}
    content["data"]["path"] = "."
    return content | {"model": draw(st.sampled_from(names))}


ODDITIES = st.sampled_from(
    [
        *("1e-3", "yes", "No", "010", "0o17", "0x1F", "1_000", "1:30", "+.inf", ".nan", "-.INF"),
        *("~", "null", "=", "<<", "*nope", "&here 3", "&a [*a]", "{<<: *cnn}", "!!float x"),
        *("!!int x", "!!set {a, b}", "!!omap [a: 1]", "!!binary '#'", "!!python/object:a.b x"),
        *("2001-99-99", "2001-12-14t21:59:43.10-05:00", "|\n  text", ">-\n  a\n  b", "'a''b'"),
        *(r'"\ud800"', r'"\x00"', r'"\e[31m"', r'"a\nb"', "\u2028", "!x y"),
        *("{", "[1, 2", "]", "- a", "? b", "%"),
        *("9" * 5000, "0x" + "f" * 5000, "a" * 100_000, "[" * 200 + "]" * 200, "9" * 400),
    ]
)
EDITS = st.sampled_from(["value", "value", "value", "cut", "delete", "double", "insert"])


@st.composite
def odd_yaml(draw: st.DrawFn) -> str:
    """The text of the smoke preset with an oddity of YAML for a value, or a few edits anywhere."""
    lines = presets.text("smoke").splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        match draw(EDITS):
            case "value":
                lines[number] = line.partition(":")[0] + ": " + draw(ODDITIES)
            case "cut":
                lines[number] = line[: draw(st.integers(0, len(line)))]
            case "delete":
                lines[number] = ""
            case "double":
                lines[number] = f"{line}\n{line}"
            case "insert":
                at = draw(st.integers(0, len(line)))
                lines[number] = line[:at] + draw(st.characters()) + line[at:]
    return "\n".join(lines) + "\n"


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**300), 10**300),
    st.floats(),
    PLAIN_TEXT,
    st.sampled_from(["1e-3", "yes", "no", "0o17", "null", "~", "3", "0.5", "[]", "a\nb", "${x}"]),
    st.recursive(
        st.none() | st.integers() | PLAIN_TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_TEXT, inner, max_size=3),
        max_leaves=8,
    ),
)


def takes(annotation: Any, value: Any, constraints: Sequence[Any] = ()) -> bool:
    """Whether the schema takes a value; written again here, so that it can contradict pydantic."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return takes(arguments[0], value, [*_constraints(arguments[1:]), *constraints])
    if origin is Literal:
        return any(value == choice and type(value) is not bool for choice in arguments)
    if origin in (Union, UnionType):
        return any(takes(argument, value, constraints) for argument in arguments)
    if origin is list:
        long_enough = _bound(constraints, MinLen, 0) <= len(value) if _is_list(value) else False
        return long_enough and all(takes(arguments[0], each) for each in value)
    if annotation is NoneType:
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    if annotation in (int, float):
        kinds = (int,) if annotation is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return -1e308 < value < 1e308 and _within(value, constraints)
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _within(value: float, constraints: Sequence[Any]) -> bool:
    return _bound(constraints, Ge, -math.inf) <= value <= _bound(
        constraints, Le, math.inf
    ) and _bound(constraints, Gt, -math.inf) < value < _bound(constraints, Lt, math.inf)


def fields(model: type[BaseModel], above: Path_ = ()) -> dict[Path_, Any]:
    """The annotation of every setting under a section, by its path."""
    found: dict[Path_, Any] = {}
    for name, annotation in get_type_hints(model, include_extras=True).items():
        if name not in model.model_fields:
            continue
        field = model.model_fields[name]
        found[(*above, name)] = annotation
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields(field.annotation, (*above, name))
    return found


# What breaks an architecture is tried on one of each family.
LIBRARY = {"family": "torchvision", "name": "resnet18", "small_inputs": True}
SMOKE = presets.values("smoke")
SMOKE["architectures"]["library"] = LIBRARY
EVERY_FIELD = fields(Settings) | {
    ("architectures", entry, *path): annotation
    for entry, model in (("cnn", Cnn), ("densenet", DenseNet), ("library", Library))
    for path, annotation in fields(model).items()
}
REFUSED_ELSEWHERE = {("model",), ("train", "loss"), ("data", "path")}  # any text is of the type


def changed(path: Path_, change: Callable[[Content, str], None]) -> Content:
    """The smoke preset after a change in the section that holds `path`."""
    content = json.loads(json.dumps(SMOKE))
    section = content
    for part in path[:-1]:
        section = section[part]
    change(section, path[-1])
    return content


@st.composite
def broken(draw: st.DrawFn) -> tuple[Content, str]:
    """The smoke preset with one setting that can't be right, and what the message must name."""
    path = draw(st.sampled_from(sorted(EVERY_FIELD)))
    where = ".".join(path)
    kind = draw(st.sampled_from(["value", "value", "value", "missing", "unknown"]))
    if kind == "missing" and path[-1] != "baseline":
        return changed(path, lambda section, key: section.pop(key)), where
    if kind == "unknown" and path[:-1] != ("architectures",):
        key = draw(PLAIN_TEXT.filter(lambda text: (*path[:-1], text) not in EVERY_FIELD))
        return changed(path, lambda section, _: section.update({key: 0})), ".".join(path[:-1])
    value = draw(JUNK.filter(lambda junk: not takes(EVERY_FIELD[path], junk)))
    return changed(path, lambda section, key: section.update({key: value})), where


def as_yaml(content: Content) -> str:
    """JSON is YAML, but for its numbers that are none."""
    text = json.dumps(content)
    return text.replace("-Infinity", "-.inf").replace("Infinity", ".inf").replace("NaN", ".nan")
