"""What one stage writes and another reads: a model for each JSON file, the columns of each table.

Writer and reader use the same declaration. Every field of a record is given by the stage that
writes it, so that a stage whose record changes has changed itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.storage.atomic import write_json
from pipeline.storage.reading import complete_text, reading


class Record(BaseModel):
    """A JSON file, or a part of one. Numbers are finite."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


AnyRecord = TypeVar("AnyRecord", bound=Record)
Positive = Annotated[float, Field(gt=0)]


def write(path: Path, record: Record) -> None:
    """Write a record as JSON; a field that was not set is left out."""
    write_json(path, record.model_dump(by_alias=True, exclude_unset=True))


def read(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read the record of a stage.

    Raises:
        MissingFileError: if there is no such file.
        CorruptFileError: if it is incomplete, not JSON, or without a field or with another type.
    """
    with reading(path):
        return parse(complete_text(path), kind)


def parse(content: str | bytes, kind: type[AnyRecord]) -> AnyRecord:
    """Return the record that JSON holds.

    Raises:
        ValueError: if it is not JSON, or without a field or with another type.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ValueError(f"without {where}") from None
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


class Source(Record):
    """``source.json`` of the download stage: the files of a source and their sha256."""

    name: str
    obtained_from: str
    files: dict[str, str]


class Duplicates(Record):
    """How many images have the same pixels as another; ``duplicates.csv`` names them."""

    groups: int  # groups of images with the same pixels
    images: int  # images in them
    across_splits: int  # groups with images in more than one split (with folds: in several folds)
    across_classes: int  # groups with images of more than one class
    # test images that also lie in train or validation (with folds: in the run that tests them)
    test_images: int


class NearDuplicates(Record):
    """How many pairs of images show the same; ``near_duplicates.csv`` names them."""

    pairs: int  # in two splits (with folds: in two folds)
    # test images that lie nearly the same in train or validation (with folds: in the run of theirs)
    test_images: int


NO_DUPLICATES = Duplicates(groups=0, images=0, across_splits=0, across_classes=0, test_images=0)


class MadeFrom(Record):
    """What an output was made from, besides the outputs of other stages."""

    settings: dict[str, Any]  # by their dotted keys, as `settings.recorded.select` gives them
    code: dict[str, str]  # of each file and folder of code that the stage depends on: DVC's md5
    # sha256 of files of other stages that were read, where nothing else in the output says which
    inputs: dict[str, str]


class Origin(Record):
    """``raw.json`` and ``splits.json``, beside the folders of that name.

    Not in them: what reads the folders would have to run again when a comment in code changes.
    """

    made_from: MadeFrom
    # the folder's name and DVC's md5; an earlier version of this code didn't write it
    outputs: dict[str, str] = {}
    # `data.path` and DVC's md5 of it, while a person's own images were read
    own_files: dict[str, str] = {}


Mean = Annotated[float, Field(ge=0, le=1)]
Std = Annotated[float, Field(gt=0, le=1)]


class Splits(Record):
    """``dataset.json`` of the split stage."""

    name: str  # of the source
    classes: list[str]  # their names
    image_size: int  # height and width in pixels
    channels: int  # 1 for grey images, 3 for RGB
    normalisation: Literal["training", "imagenet", "given"]  # whose mean and std
    folds: Annotated[int, Field(ge=2, le=1000)] | None  # k of k-fold cross-validation, or None
    # of each channel, for images in [0, 1]; with folds of each run
    mean: list[Mean] | list[list[Mean]]
    std: list[Std] | list[list[Std]]  # the same
    # images by split and class; with folds by fold ("fold 0") and class
    counts: dict[str, dict[str, int]]
    rejected: int  # how many images can't be used
    official: list[str]  # the splits that the source gives; with folds they are pooled
    groups: int | None  # how many groups the images are of, none in two splits; None without
    duplicates: Duplicates  # images with the same pixels
    near_duplicates: NearDuplicates | None  # None where they were not looked for
    sha256: dict[str, str]  # of the arrays


class Provenance(Record):
    """Where weights come from; it stands in their file."""

    splits: str  # the fingerprint of the splits
    seed: int
    made_from: MadeFrom


class Pretrained(Record):
    """What a training started from, and which tensors of its network are not from there."""

    file: str  # its name
    sha256: str
    taken: int  # tensors that are the file's, in the type that the network has
    adapted: list[str]  # the file's, for images of another number of channels
    rescaled: list[str]  # the file's times a power of two: new attention begins at its inverse
    made_new: list[str]  # with random weights
    left_out: list[str]  # tensors of the file


class Training(Record):
    """``train.json`` of the train stage. Accuracies in [0, 1], the loss in nats."""

    model: str
    seed: int
    images: int  # that it learnt from
    epochs: int
    stopped_early: bool
    best_epoch: int
    validation_accuracy: float
    validation_loss: float
    precision: str
    device: str
    device_name: str
    threads: int
    processes: int
    versions: dict[str, str]
    pretrained: Pretrained | None


class ClassScores(Record):
    """The scores of one class in [0, 1], and its number of images."""

    precision: float
    recall: float
    f1: float
    support: int


class Classification(Record):
    """What can be said of predictions on one split."""

    accuracy: float  # in [0, 1]
    balanced_accuracy: float  # mean of the recalls of the classes that there are
    nll: float  # the mean negative log-likelihood in nats
    macro_f1: float  # mean of the classes' F1
    per_class: dict[str, ClassScores]  # 0 where a class was never predicted
    confusion: list[list[int]]  # counts (K, K), a row for each true class


class Intervened(Record):
    """What becomes of a network's answers when its attention no longer sees the image."""

    accuracy: float  # in [0, 1]
    changed: int  # test images with another answer


# Whether the weights of an attention module vary with the image; they are dead where all of them
# are the same number as well.
ModuleState = Literal["varies", "constant", "dead"]


class Evaluation(Classification):
    """``metrics.json`` of the evaluate stage."""

    modules: dict[str, ModuleState]  # of attention, over the validation images
    interventions: dict[str, Intervened]  # frozen, shuffled; none of a network without attention
    parameters: int  # of the network
    macs: int  # multiply-accumulates for one image
    splits: str  # the fingerprint of the splits
    weights: str  # sha256 of the weights' file
    trained_from: MadeFrom  # what the weights were made from
    made_from: MadeFrom


Rounds = Annotated[list[Positive], Field(min_length=6)]  # fewer can show no difference


class ArchitectureTimings(Record):
    """What an architecture costs: a time for one image (ms), images per second by round, bytes."""

    latency_ms: Rounds
    latency_ms_p95: float
    throughput: Rounds
    training_throughput: Rounds
    inference_memory: int  # at its peak, of a batch of `throughput_batch`
    training_memory: int  # at its peak, of a batch of `training_batch`


class Timings(Record):
    """``timings.json`` of the measure stage."""

    device_name: str
    threads: int
    throughput_batch: int
    training_batch: int
    precision: str  # of the training; inference is in fp32
    other_processes: Mean  # their share of the processor time of all cores
    architectures: dict[str, ArchitectureTimings]
    splits: str  # the fingerprint of the splits
    made_from: MadeFrom


class FeatureLayer(Record):
    """A layer whose maps are drawn: their shape (C, h, w), and how many channels."""

    shape: list[int]
    channels_drawn: int


class CamLayer(Record):
    """The layer of a class activation map, and the shape (h, w) of the map."""

    layer: str
    shape: list[int]


class ShownImage(Record):
    """A test image in the figures, and its channels with the largest mean activations."""

    id: int
    class_name: str = Field(alias="class")
    predicted: str
    heatmap_channels: list[int]
    heatmap_mean_activations: list[float]


class Faithfulness(Record):
    """How deletion and insertion were measured."""

    images: int
    steps: int
    fills: dict[str, str]  # what stands in for removed pixels, in words
    confidence: float


class Randomisation(Record):
    """What was randomised, in this order, and in how many random networks."""

    randomised: list[str]
    networks: int
    confidence: float


class AttentionModule(Record):
    """The kind of an attention module, and the shape of its weights."""

    kind: str
    shape: list[int]


class Attention(Record):
    """The attention modules: those in ``attention.svg``, those whose weights never vary."""

    modules: dict[str, AttentionModule]
    shown: list[str]
    constant: list[str]
    constant_below: float


class Explanation(Record):
    """``explain.json`` of the explain stage; without attention there is no `attention`."""

    model: str
    feature_maps: dict[Literal["layers"], dict[str, FeatureLayer]]
    heatmaps: dict[Literal["layer"], str]
    cams: dict[str, CamLayer]
    images: list[ShownImage]
    faithfulness: Faithfulness
    randomisation: Randomisation
    attention: Attention | None = None
    splits: str  # the fingerprint of the splits
    weights: str  # sha256 of the weights' file
    made_from: MadeFrom


@dataclass(frozen=True)
class Table:
    """A CSV file."""

    columns: Mapping[str, str]  # by name what is in them, as pandas names it
    optional: frozenset[str] = frozenset()  # columns that may be empty


# The kinds of heatmap that are put to the test: those of a network, and two that are no network's.
METHODS = ("grad_cam", "layer_cam", "strongest_channel")
CONTROLS = ("random", "centre")
HEATMAP_KINDS = (*METHODS, *CONTROLS)
CAMS = ("grad_cam", "layer_cam")
# All against one control, all against the other, and against each other.
COMPARISONS = (
    *((method, control) for control in CONTROLS for method in METHODS),
    *combinations(METHODS, 2),
)
CURVES = ("deletion", "insertion")
FILLS = ("mean", "blur")  # what stands in for removed pixels

HISTORY = Table({
    "epoch": "int64", "train_loss": "float64", "train_accuracy": "float64",
    "validation_loss": "float64", "validation_accuracy": "float64", "learning_rate": "float64",
    "seconds": "float64",
})  # fmt: skip
# Of a single image there is no interval.
FAITHFULNESS = Table({
    "fill": "str", "curve": "str", "heatmap": "str", "against": "str", "advantage": "float64",
    "low": "float64", "high": "float64", "p": "float64", "p_holm": "float64",
}, optional=frozenset({"low", "high", "p", "p_holm"}))  # fmt: skip
FAITHFULNESS_AREAS = Table({
    "fill": "str", "curve": "str", "heatmap": "str", "area": "float64", "low": "float64",
    "high": "float64", "images": "int64",
}, optional=frozenset({"low", "high"}))  # fmt: skip
EMPTY_IMAGES = Table({
    "image": "str", "probability": "float64", "low": "float64", "high": "float64",
    "images": "int64",
}, optional=frozenset({"low", "high"}))  # fmt: skip
# Of a map without a pattern there is no correlation.
RANDOMISATION = Table({
    "heatmap": "str", "randomised": "str", "rank_correlation": "float64", "low": "float64",
    "high": "float64", "least": "float64", "greatest": "float64", "networks": "int64",
    "images": "int64", "maps": "int64",
}, optional=frozenset({"rank_correlation", "low", "high", "least", "greatest"}))  # fmt: skip
# Of weights that never vary no share is explained.
ATTENTION_VARIATION = Table({
    "module": "str", "kind": "str", "weights": "int64", "mean": "float64",
    "sd_between": "float64", "sd_over_images": "float64", "share_by_class": "float64",
    "share_by_chance": "float64", "constant": "bool",
}, optional=frozenset({"share_by_class"}))  # fmt: skip
