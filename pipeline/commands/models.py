"""The architectures of params.yaml with what they cost, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.data import arrays
from pipeline.data.sources.registry import SOURCES, Shape
from pipeline.evaluation import cost
from pipeline.models import registry
from pipeline.settings.schema import Settings, named
from pipeline.system.errors import InputError
from pipeline.system.formats import ABSENT


def images_shape(settings: Settings, splits: Path) -> Shape:
    """Return what the networks must fit, before there are images if the source is always the same.

    The split stage's `splits` are read where the source has no fixed shape.

    Raises:
        InputError: if the shape isn't known yet.
    """
    shape = SOURCES[settings.data.name].shape
    if shape is None:
        try:
            dataset = arrays.read(splits, settings)
        except InputError as error:
            raise InputError(f"{error}; until then the number of classes is not known") from None
        shape = Shape(len(dataset.classes), dataset.image_size, dataset.channels)
    return replace(shape, image_size=settings.data.image_size or shape.image_size)


def print_architectures(settings: Settings, splits: Path) -> None:
    """Print each architecture's parameters and multiply-accumulates for one image.

    Raises:
        InputError: if a network can't be built for the images, or `images_shape` isn't known yet.
    """
    shape = images_shape(settings, splits)
    size, channels = shape.image_size, shape.channels
    title = f"{settings.data.name}: {size} x {size} x {channels}, {shape.num_classes} classes"
    table = Table("architecture", "family", "attention", "baseline", title=title)
    table.add_column("parameters", justify="right")
    table.add_column("MACs per image", justify="right")
    for name, architecture in settings.architectures.items():
        content = architecture.model_dump()
        network = registry.build(content, shape.num_classes, size, channels)
        table.add_row(
            name,
            architecture.family,
            content.get("attention", ABSENT),
            ", ".join(named(architecture.baseline)) or ABSENT,
            f"{cost.parameters(network):,}",
            f"{cost.macs(network, size, channels):,}",
        )
    Console(soft_wrap=True).print(table)
