"""Exact duplicates: found among all images, and reported where they would flatter the result."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data import arrays, duplicates
from pipeline.data.splitting import Division
from pipeline.settings.schema import Data, Split
from pipeline.stages import download, split
from pipeline.storage.records import NO_DUPLICATES, Duplicates


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def rows(images: np.ndarray) -> list[list[int]]:
    return [group.tolist() for group in duplicates.find(images)]


def test_groups_are_those_that_a_comparison_of_all_pairs_finds() -> None:
    images = np.random.default_rng(1).integers(0, 3, (40, 2, 2, 1), dtype=np.uint8)
    equal = (images[:, np.newaxis] == images[np.newaxis]).all(axis=(2, 3, 4))  # (40, 40)
    expected = {tuple(np.flatnonzero(row)) for row in equal if row.sum() > 1}
    assert len(expected) > 1
    assert rows(images) == sorted(map(list, expected))


def test_different_images_make_no_groups() -> None:
    assert rows(noise(100)) == []


def test_one_value_of_one_pixel_is_a_difference() -> None:
    images = np.repeat(noise(1), 3, axis=0)
    images[1, 7, 7, 2] ^= 1
    assert rows(images) == [[0, 2]]


def test_images_are_found_in_a_mapped_file_as_in_memory(tmp_path: Path) -> None:
    images = np.concatenate([noise(50), noise(50)])
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert rows(mapped) == rows(images) == [[row, row + 50] for row in range(50)]


def test_test_images_that_are_trained_on_or_validated_with_are_counted() -> None:
    splits = ["train", "train", "validation", "test", "test", "test", "test", "train"]
    groups = [np.array([0, 1]), np.array([2, 3, 4]), np.array([5, 6])]
    labels = np.array([0, 0, 1, 1, 0, 1, 1, 0])
    found = duplicates.summarise(groups, labels, Division(np.arange(8), np.array(splits)))
    assert found == Duplicates(groups=3, images=7, across_splits=1, across_classes=1, test_images=2)


def test_with_folds_all_images_of_a_group_across_folds_are_test_images_of_some_run() -> None:
    fold = np.array([0, 0, 1, 2])
    runs = np.where(fold[:, np.newaxis] == np.arange(3), "test", "train")
    groups = [np.array([0, 1]), np.array([2, 3])]
    found = duplicates.summarise(groups, np.zeros(4, int), Division(np.arange(4), runs, fold))
    assert (found.across_splits, found.test_images) == (1, 2)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Give a folder of two classes in which 10 of the 20 images of each class are equal."""
    for class_name, seed in (("cat", 0), ("dog", 1)):
        folder = tmp_path / "local" / class_name
        folder.mkdir(parents=True)
        for number, image in enumerate(noise(20, seed)):
            shown = noise(20, seed)[0] if number < 10 else image
            Image.fromarray(shown).save(folder / f"{number:02}.png")
    Image.fromarray(noise(20)[19]).save(tmp_path / "local" / "dog" / "19.png")  # a cat
    return tmp_path


def divide(root: Path, folds: int | None) -> arrays.Dataset:
    data = Data(
        name="image_folder",
        path=str(root / "local"),
        labels=None,
        image_size=8,
        normalisation="training",
        unusable_files="stop",
    )
    settings = Split(
        seed=0, validation_fraction=0.2, test_fraction=0.2, folds=folds, max_per_class=None
    )
    download.run(data, root / "raw", root / "downloads")
    split.run(data, settings, root / "raw", root / "splits")
    return arrays.read(root / "splits")


@pytest.mark.parametrize("folds", [None, 3])
def test_the_list_and_the_description_hold_all_groups(copied: Path, folds: int | None) -> None:
    dataset = divide(copied, folds)
    with (copied / "splits" / "duplicates.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    with (copied / "splits" / "index.csv").open(newline="") as file:
        index = {row["origin"]: row for row in csv.DictReader(file)}
    groups: dict[str, list[dict[str, str]]] = {}
    for row in listed:
        groups.setdefault(row["group"], []).append(row)
        indexed = index[row["origin"]]
        place = indexed["split" if folds is None else "fold"]
        assert (row["id"], row["class"], row["split"]) == (indexed["id"], indexed["class"], place)
    origins = [[row["origin"] for row in members] for members in groups.values()]
    assert list(groups) == ["1", "2", "3"]
    assert origins == [
        [f"cat/{number:02}.png" for number in range(10)],
        ["cat/19.png", "dog/19.png"],
        [f"dog/{number:02}.png" for number in range(10)],
    ]
    across = [members for members in groups.values() if len({row["split"] for row in members}) > 1]
    tested = [row for members in across for row in members if folds or row["split"] == "test"]
    assert tested
    expected = Duplicates(
        groups=3,
        images=22,
        across_splits=len(across),
        across_classes=1,
        test_images=len(tested),
    )
    assert dataset.duplicates == expected
    description = json.loads((copied / "splits" / "dataset.json").read_text())
    assert Duplicates(**description["duplicates"]) == expected


def test_test_images_in_training_are_said_with_where_the_list_is(
    copied: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    count = divide(copied, None).duplicates.test_images
    assert count > 1
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"image_folder: {count} test images lie in train or validation too, pixel for pixel; "
        f"see {copied / 'splits' / 'duplicates.csv'}"
    )


def test_nothing_is_said_where_every_image_is_there_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for class_name, seed in (("cat", 0), ("dog", 1)):
        (tmp_path / "local" / class_name).mkdir(parents=True)
        for number, image in enumerate(noise(20, seed)):
            Image.fromarray(image).save(tmp_path / "local" / class_name / f"{number}.png")
    assert divide(tmp_path, None).duplicates == NO_DUPLICATES
    assert "pixel for pixel" not in capfd.readouterr().err
    assert (tmp_path / "splits" / "duplicates.csv").read_text() == "group,id,split,class,origin\n"
