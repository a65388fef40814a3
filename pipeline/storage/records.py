"""What the records of the stages before the report hold, as far as it is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

# The kinds of heatmap that are put to the test; the last two are no network's.
CONTROLS = ("random", "centre")
HEATMAP_KINDS = ("grad_cam", "layer_cam", "strongest_channel", *CONTROLS)

_EXACT = with_config(ConfigDict(strict=True, allow_inf_nan=False))


@_EXACT
class _Training(TypedDict):
    epochs: int
    best_epoch: int
    validation_accuracy: float
    precision: str
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]


@_EXACT
class _OfClass(TypedDict):
    precision: float
    recall: float
    f1: float
    support: int


@_EXACT
class _Metrics(TypedDict):
    accuracy: float
    nll: float
    macro_f1: float
    per_class: dict[str, _OfClass]
    confusion: list[list[int]]
    parameters: int
    macs: int
    splits: str


_Rounds = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]


@_EXACT
class _OfArchitecture(TypedDict):
    latency_ms: _Rounds
    throughput: _Rounds


@_EXACT
class _Timings(TypedDict):
    architectures: dict[str, _OfArchitecture]
    device_name: str


@_EXACT
class _Cam(TypedDict):
    layer: str


@_EXACT
class _Randomised(TypedDict):
    randomised: list[str]


class _Attention(TypedDict):
    modules: NotRequired[dict[str, Any]]


@_EXACT
class _Explained(TypedDict):
    images: list[dict[str, Any]]
    cams: dict[str, _Cam]
    randomisation: NotRequired[_Randomised]
    attention: NotRequired[_Attention | None]


_RECORDS: dict[str, TypeAdapter[Any]] = {
    "train.json": TypeAdapter(_Training),
    "metrics.json": TypeAdapter(_Metrics),
    "timings.json": TypeAdapter(_Timings),
    "explain.json": TypeAdapter(_Explained),
}


def read_record(path: Path) -> dict[str, Any]:
    """Read a stage's record, known by the name of its file.

    Raises:
        OSError: if it can't be read.
        ValueError: if it isn't JSON, or something that is reported is missing or of another kind.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not a mapping")
    try:
        _RECORDS[path.name].validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = f"without {where}" if first["type"] == "missing" else f"{where}: {first['msg']}"
        raise ValueError(told) from None
    return content
