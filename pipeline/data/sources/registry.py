"""The sources of images, by the name that `data.name` gives them.

To add one, write its `fetch` and `read` in a module of its own and name it in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.collection import Collection
from pipeline.data.sources import digits, image_folder, torchvision_sets
from pipeline.settings.schema import Data
from pipeline.storage import checksums, records
from pipeline.storage.reading import remedy
from pipeline.system.errors import InputError

DESCRIPTION = "source.json"


@dataclass(frozen=True)
class Shape:
    """What a network must fit: how many classes, and images of what size (pixels) and channels."""

    num_classes: int
    image_size: int
    channels: int


@dataclass(frozen=True)
class Source:
    """How to get a kind of images and how to read them."""

    # ``fetch(raw, data, downloads)`` puts the source's own files into the empty folder `raw` and
    # returns where they are from. `data.path` is the folder that a person may have put files into,
    # `downloads` one that outlives a failed run. Raises `InputError` when they can't be had
    fetch: Callable[[Path, Data, Path], str]
    # ``read(raw, data, scratch)`` gives the images that `fetch` left in `raw`. Only a source whose
    # images come in many sizes looks at `data.image_size`. Arrays that are too large for the memory
    # may be mapped in the folder `scratch`
    read: Callable[[Path, Data, Path], Collection]
    shape: Shape | None  # of its images, where it is always the same
    # ``own_files(data)`` gives the files of `data.path` that it reads whatever is in them; None
    # where it checks what it reads against a checksum that it knows
    own_files: Callable[[Data], list[Path]] | None = None


SOURCES: dict[str, Source] = {
    "digits": Source(digits.fetch, digits.read, Shape(10, 8, 1)),
    "cifar10": Source(
        torchvision_sets.fetch_cifar10, torchvision_sets.read_cifar10, Shape(10, 32, 3)
    ),
    "cifar100": Source(
        torchvision_sets.fetch_cifar100, torchvision_sets.read_cifar100, Shape(100, 32, 3)
    ),
    "fashion_mnist": Source(
        torchvision_sets.fetch_fashion_mnist, torchvision_sets.read_fashion_mnist, Shape(10, 28, 1)
    ),
    "image_folder": Source(image_folder.fetch, image_folder.read, None, image_folder.own_files),
}


def describe(raw: Path, name: str, obtained_from: str) -> None:
    """Write ``source.json``: the source's name, where it is from, and each file's sha256."""
    paths = sorted(path for path in raw.rglob("*") if path.is_file())
    files = {path.relative_to(raw).as_posix(): checksums.checksum(path) for path in paths}
    record = records.Source(name=name, obtained_from=obtained_from, files=files)
    records.write(raw / DESCRIPTION, record)


def verify(raw: Path, name: str) -> None:
    """Check that `raw` holds all of the named source, as `describe` left it.

    Raises:
        InputError: if it holds another source, or a file is missing or changed.
    """
    again = "run the download stage (python -m pipeline download)"
    with remedy(missing=again, corrupt=again):
        found = records.read(raw / DESCRIPTION, records.Source)
    if found.name != name:
        raise InputError(f"{raw}: holds '{found.name}', but data.name is '{name}'; {again}")
    for relative, expected in found.files.items():
        if not (raw / relative).is_file():
            raise InputError(f"{raw / relative}: no such file; {again}")
        checksums.check(raw / relative, expected, "sha256", again)
