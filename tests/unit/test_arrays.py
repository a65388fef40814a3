"""The arrays on disk: what they hold, that they are the same each time, what a cut one says."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.data import arrays, writing
from pipeline.data.collection import Collection, Rejected
from pipeline.data.splitting import Division
from pipeline.settings.schema import Data, MeanStd, Split
from pipeline.stages import download, split
from pipeline.system.errors import InputError

# those that are read come first
FILES = (
    "dataset.json",
    "images.npy",
    "index.csv",
    "labels.npy",
    "duplicates.csv",
    "near_duplicates.csv",
    "rejected.csv",
)


def some_images(count: int = 60, size: int = 8, channels: int = 3) -> Collection:
    generator = np.random.default_rng(0)
    return Collection(
        images=generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8),
        labels=np.arange(count) % 2,
        classes=("cat", "dog"),
        ids=np.arange(count) + 100,
        origins=[f"batch:{row}" for row in range(count)],
        rejected=(Rejected("dog/corrupt.png", "not an image that can be read"),),
    )


def thirds(count: int = 60) -> Division:
    names = np.array(["train", "validation", "test"])
    return Division(np.arange(count), names[np.arange(count) // 2 % 3])


def write(folder: Path, collection: Collection, **settings) -> arrays.Dataset:
    folder.mkdir(exist_ok=True)
    chosen = {"image_size": None, "normalisation": "training"} | settings
    return writing.write(folder, "pets", collection, thirds(len(collection.labels)), **chosen)


def sha256s(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def digits_data() -> Data:
    return Data(
        name="digits",
        path="unused",
        labels=None,
        image_size=None,
        normalisation="training",
        unusable_files="set_aside",
    )


def split_settings(validation_fraction: float) -> Split:
    return Split(
        seed=0,
        validation_fraction=validation_fraction,
        test_fraction=0.2,
        folds=None,
        max_per_class=None,
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    images = some_images()
    write(tmp_path, images)
    dataset = arrays.read(tmp_path)
    assert np.array_equal(dataset.images, images.images)
    assert np.array_equal(dataset.labels, images.labels)
    assert dataset.labels.dtype == np.int64
    assert dataset.ids.tolist() == list(range(100, 160))
    assert (dataset.name, dataset.classes, dataset.rejected) == ("pets", ("cat", "dog"), 1)
    assert (dataset.image_size, dataset.channels) == (8, 3)
    assert dataset.rows("validation").tolist()[:4] == [2, 3, 8, 9]
    assert dataset.counts == {
        name: {"cat": 10, "dog": 10} for name in ("train", "validation", "test")
    }
    with (tmp_path / "index.csv").open() as file:
        first = next(csv.DictReader(file))
    assert first == {"id": "100", "split": "train", "class": "cat", "origin": "batch:0"}
    assert (dataset.folds, dataset.fold) == (None, None)
    assert dataset.for_run(7) is dataset


def test_mean_and_deviation_are_numpys_of_the_training_split(tmp_path: Path) -> None:
    images = some_images()
    dataset = write(tmp_path, images)
    training = images.images[thirds().split == "train"] / 255.0
    description = json.loads((tmp_path / "dataset.json").read_text())
    np.testing.assert_allclose(description["mean"], training.mean((0, 1, 2)), atol=1e-8)
    np.testing.assert_allclose(description["std"], training.std((0, 1, 2)), atol=1e-8)
    np.testing.assert_allclose(dataset.mean, description["mean"], rtol=1e-6)


def test_a_channel_that_never_varies_can_be_divided_by_its_deviation(tmp_path: Path) -> None:
    images = some_images()
    images.images[..., 1] = 51
    dataset = write(tmp_path, images)
    assert (dataset.mean[1], dataset.std[1]) == (np.float32(0.2), 1.0)


def test_imagenets_mean_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    dataset = write(tmp_path, some_images(), normalisation="imagenet")
    np.testing.assert_allclose(dataset.mean, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(dataset.std, [0.229, 0.224, 0.225], rtol=1e-6)


def test_given_mean_and_std_are_written(tmp_path: Path) -> None:
    given = MeanStd(mean=[0.5, 0, 1], std=[0.1, 0.2, 1])
    dataset = write(tmp_path, some_images(), normalisation=given)
    np.testing.assert_allclose(dataset.mean, [0.5, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(dataset.std, [0.1, 0.2, 1], rtol=1e-6)
    assert json.loads((tmp_path / "dataset.json").read_text())["normalisation"] == "given"


@pytest.mark.parametrize(
    ("normalisation", "channels"),
    [
        ("imagenet", 1),
        (MeanStd(mean=[0.5], std=[0.2]), 3),
        (MeanStd(mean=[0.5, 0.5, 0.5], std=[0.2]), 3),
    ],
)
def test_mean_and_std_have_to_suit_the_channels(
    normalisation: Any, channels: int, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"data\.normalisation: .* have {channels} channel"):
        write(tmp_path, some_images(channels=channels), normalisation=normalisation)


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (4, 3), (16, 1)])
def test_images_are_resized_as_pillow_does(tmp_path: Path, size: int, channels: int) -> None:
    images = some_images(channels=channels)
    dataset = write(tmp_path, images, image_size=size)
    assert dataset.images.shape == (60, size, size, channels)
    picture = Image.fromarray(images.images[7].squeeze())
    expected = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    assert np.array_equal(dataset.images[7].squeeze(), expected)


def in_file(path: Path, collection: Collection) -> Collection:
    """Put the images into a file that may be moved."""
    np.save(path, collection.images)
    return replace(collection, images=np.load(path, mmap_mode="r"), file=path)


def test_a_file_of_all_images_becomes_what_their_copy_would_be(tmp_path: Path) -> None:
    collection = in_file(tmp_path / "decoded.npy", some_images())
    number = (tmp_path / "decoded.npy").stat().st_ino
    write(tmp_path / "moved", collection)
    write(tmp_path / "copied", some_images())
    assert (tmp_path / "moved" / "images.npy").stat().st_ino == number
    assert sha256s(tmp_path / "moved") == sha256s(tmp_path / "copied")


@pytest.mark.parametrize("size", [None, 16])
def test_a_file_whose_images_are_not_all_used_or_not_as_they_are_is_left(
    tmp_path: Path, size: int | None
) -> None:
    collection = in_file(tmp_path / "decoded.npy", some_images())
    used = thirds() if size else Division(np.arange(59), thirds().split[:59])
    (tmp_path / "splits").mkdir()
    dataset = writing.write(
        tmp_path / "splits", "pets", collection, used, image_size=size, normalisation="training"
    )
    assert dataset.images.shape[:2] == (len(used.rows), size or 8)
    assert np.array_equal(np.load(tmp_path / "decoded.npy"), some_images().images)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, some_images(), image_size=16)
    assert set(sha256s(tmp_path / "first")) == set(FILES)
    assert sha256s(tmp_path / "first") == sha256s(tmp_path / "second")


@pytest.mark.parametrize("name", FILES[:4])
def test_a_missing_or_incomplete_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, some_images())
    complete = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(complete[: len(complete) // 2])
    with pytest.raises(InputError, match=f"{name}: can't be read") as error:
        arrays.read(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        arrays.read(tmp_path)


def test_before_any_run_the_error_names_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        arrays.read(tmp_path / "splits")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'splits' / 'dataset.json'}: no such file; run the")
    for command in ("dvc repro", "snakemake --cores 4", "python -m pipeline split"):
        assert command in message
    assert "delete" not in message


def test_a_large_set_is_measured_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = some_images()
    at_once = write(tmp_path / "at_once", images, image_size=4)
    monkeypatch.setattr(writing, "BYTES_AT_ONCE", 1)  # a piece then is a single image
    pieces = write(tmp_path / "pieces", images, image_size=4)
    assert np.array_equal(at_once.images, pieces.images)
    assert at_once.fingerprint == pieces.fingerprint


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", "a\rb", "a\r\nb", "ä"])
def test_any_name_survives_in_the_tables(tmp_path: Path, name: str) -> None:
    images = replace(some_images(), origins=[f"{name}{row}" for row in range(60)])
    images = replace(images, classes=("cat", name), rejected=(Rejected(name, "corrupt"),))
    dataset = write(tmp_path, images)
    assert dataset.classes == ("cat", name)
    for file, column, expected in (("index", "origin", f"{name}0"), ("rejected", "path", name)):
        with (tmp_path / f"{file}.csv").open(encoding="utf-8", newline="") as table:
            assert next(csv.DictReader(table))[column] == expected


def test_both_stages_on_digits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = digits_data()
    settings = split_settings(0.1)
    for name in ("first", "second"):
        download.run(data, tmp_path / name / "raw", tmp_path / "downloads")
        split.run(data, settings, tmp_path / name / "raw", tmp_path / name / "splits")
    dataset = arrays.read(tmp_path / "first" / "splits")
    digits = load_digits()
    assert np.array_equal(dataset.labels, digits.target)
    assert abs(dataset.images.mean() / 255 - digits.images.mean() / 16) < 1e-3
    assert (len(dataset.rows("train")), len(dataset.rows("test"))) == (1293, 360)
    for folder in ("raw", "splits"):
        assert sha256s(tmp_path / "first" / folder) == sha256s(tmp_path / "second" / folder)
    assert [path.name for path in sorted((tmp_path / "first").iterdir())] == ["raw", "splits"]
    said = "digits: 1293 train, 144 validation, 360 test images of 8x8x1 in 10 classes"
    assert said in capfd.readouterr().err


def test_a_failed_split_leaves_what_was_there(tmp_path: Path) -> None:
    data = digits_data()
    settings = split_settings(0.001)
    download.run(data, tmp_path / "raw", tmp_path / "downloads")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "dataset.json").write_text("earlier")
    with pytest.raises(InputError, match="too few"):
        split.run(data, settings, tmp_path / "raw", tmp_path / "splits")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "splits"]
    assert (tmp_path / "splits" / "dataset.json").read_text() == "earlier"


def test_fingerprint_knows_the_pixels(tmp_path: Path) -> None:
    images = some_images()
    darker = dataclasses.replace(images, images=images.images // 2)
    settings = {"normalisation": "imagenet"}  # the same mean and deviation whatever they are
    one, same, other = (
        write(tmp_path / name, given, **settings).fingerprint
        for name, given in (("one", images), ("same", images), ("other", darker))
    )
    assert one == same != other
