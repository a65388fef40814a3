"""k-fold cross-validation: every image is tested once, and no run trains on what it tests."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from pipeline.data import arrays, writing
from pipeline.data.arrays import SPLITS, Dataset
from pipeline.data.collection import Collection
from pipeline.data.splitting import Division, divide_into_folds
from pipeline.settings.schema import Data, Split
from pipeline.stages import download, split
from pipeline.system.errors import InputError

FOLDS = 5


def collection(counts: list[int], official: bool = False) -> Collection:
    """Return a collection with so many images per class, in a mixed order."""
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    return Collection(
        images=generator.integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8),
        labels=labels,
        classes=tuple(f"class{number}" for number in range(len(counts))),
        ids=np.arange(len(labels)) + 1000,
        origins=[f"image{row}" for row in range(len(labels))],
        official=np.where(np.arange(len(labels)) % 6 == 0, "test", "train") if official else None,
    )


def divided(
    images: Collection,
    seed: int = 0,
    folds: int = FOLDS,
    fraction: float = 0.2,
    max_per_class: int | None = None,
) -> Division:
    return divide_into_folds(
        images,
        seed=seed,
        folds=folds,
        validation_fraction=fraction,
        max_per_class=max_per_class,
    )


def per_class(images: Collection, division: Division, run: int, name: str) -> list[int]:
    labels = images.labels[division.rows[division.split[:, run] == name]]
    return np.bincount(labels, minlength=len(images.classes)).tolist()


def written(folder: Path, images: Collection, normalisation: str = "training") -> Dataset:
    folder.mkdir(exist_ok=True)
    return writing.write(
        folder, "made", images, divided(images), image_size=None, normalisation=normalisation
    )


def test_the_test_folds_divide_all_images_an_official_test_set_among_them() -> None:
    division = divided(collection([100, 50], official=True))
    assert division.rows.tolist() == list(range(150))
    tested = division.split == "test"  # (150, 5)
    assert tested.sum(axis=1).tolist() == [1] * 150
    assert tested.sum(axis=0).tolist() == [30] * FOLDS
    assert division.fold.tolist() == tested.argmax(axis=1).tolist()


def test_the_folds_are_scikit_learns() -> None:
    images = collection([60, 40, 23])
    division = divided(images, seed=3)
    folding = StratifiedKFold(FOLDS, shuffle=True, random_state=3)
    for run, (_, tested) in enumerate(folding.split(images.images, images.labels)):
        assert np.flatnonzero(division.split[:, run] == "test").tolist() == tested.tolist()


def test_every_run_has_every_image_once_and_classes_in_proportion() -> None:
    images = collection([500, 250, 50])
    division = divided(images)
    assert set(division.split.ravel()) == set(SPLITS)
    for run in range(FOLDS):
        assert per_class(images, division, run, "test") == [100, 50, 10]
        assert per_class(images, division, run, "validation") == [80, 40, 8]
        assert per_class(images, division, run, "train") == [320, 160, 32]


def test_validation_is_drawn_by_split_seed_and_run() -> None:
    images = collection([60, 60])
    first, same, other = (divided(images, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.split, same.split)
    assert np.array_equal(first.fold, same.fold)
    assert not np.array_equal(first.fold, other.fold)
    drawn = set()
    for run in range(FOLDS):  # which of the 48 images of a class that the run doesn't test
        members = first.split[(images.labels == 0) & (first.fold != run), run]
        assert len(members) == 48
        drawn.add(tuple(np.flatnonzero(members == "validation")))
    assert len(drawn) == FOLDS


def test_max_per_class_caps_each_class_in_each_fold_with_nested_subsets() -> None:
    images = collection([500, 250, 50])
    few, more = (divided(images, max_per_class=count) for count in (9, 20))
    for run in range(FOLDS):
        assert per_class(images, few, run, "test") == [9, 9, 9]
        assert per_class(images, more, run, "test") == [20, 20, 10]
    assert set(few.rows) < set(more.rows)
    everything = divided(images)
    assert np.array_equal(few.fold, everything.fold[few.rows])
    assert np.array_equal(few.rows, np.sort(few.rows))
    middle = np.median(few.rows[images.labels[few.rows] == 0])
    assert 200 < middle < 600  # the ones that are taken lie all over the source


@pytest.mark.filterwarnings("error")  # scikit-learn only warns of a class that misses folds
@pytest.mark.parametrize(("count", "fraction"), [(1, 0.2), (4, 0.2), (5, 0.1)])
def test_a_class_with_too_few_images_for_the_folds_is_named(count: int, fraction: float) -> None:
    with pytest.raises(InputError) as error:
        divided(collection([30, count]), fraction=fraction)
    assert str(error.value).startswith(
        f"params.yaml: split.folds: 5: class 'class1' has {count} images, too few for"
    )
    assert "\n" not in str(error.value)


def test_two_folds_of_two_images_leave_none_for_validation() -> None:
    with pytest.raises(InputError, match=r"split\.folds: 2: class 'class1' has 2 images, too few"):
        divided(collection([30, 2]), folds=2, fraction=0.2)


def test_max_per_class_is_named_where_it_leaves_too_few_images() -> None:
    with pytest.raises(InputError) as error:
        divided(collection([20, 20]), folds=2, max_per_class=1)
    assert "split.folds: 2, split.max_per_class: 1: class 'class0' has 2 images" in str(error.value)


def test_each_run_reads_its_own_splits_and_counts(tmp_path: Path) -> None:
    images = collection([60, 40])
    division = divided(images)
    written(tmp_path, images)
    dataset = arrays.read(tmp_path)
    assert dataset.folds == FOLDS
    assert np.array_equal(dataset.fold, division.fold)
    assert dataset.counts == {f"fold {run}": {"class0": 12, "class1": 8} for run in range(FOLDS)}
    tested = []
    for run in range(FOLDS):
        seen = dataset.for_run(run)
        for name in SPLITS:
            assert np.array_equal(seen.rows(name), np.flatnonzero(division.split[:, run] == name))
            assert list(seen.counts[name].values()) == per_class(images, division, run, name)
        assert set(dataset.ids[seen.rows("test")]).isdisjoint(dataset.ids[seen.rows("train")])
        assert (seen.fingerprint, seen.folds) == (dataset.fingerprint, FOLDS)
        tested += seen.ids[seen.rows("test")].tolist()
    assert sorted(tested) == images.ids.tolist()


def test_mean_and_deviation_are_numpys_of_each_runs_training_split(tmp_path: Path) -> None:
    images = collection([60, 40])
    dataset = written(tmp_path, images)
    means = set()
    for run in range(FOLDS):
        seen = dataset.for_run(run)
        training = images.images[seen.rows("train")] / 255.0
        np.testing.assert_allclose(seen.mean, training.mean((0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(seen.std, training.std((0, 1, 2)), atol=1e-6)
        means.add(tuple(seen.mean))
    assert len(means) == FOLDS


def test_imagenets_mean_is_that_of_every_run(tmp_path: Path) -> None:
    dataset = written(tmp_path, collection([60, 40]), "imagenet")
    for run in range(FOLDS):
        np.testing.assert_allclose(dataset.for_run(run).mean, [0.485, 0.456, 0.406], rtol=1e-6)
        np.testing.assert_allclose(dataset.for_run(run).std, [0.229, 0.224, 0.225], rtol=1e-6)


def test_the_index_has_the_fold_and_each_runs_split(tmp_path: Path) -> None:
    images = collection([60, 40])
    division = divided(images)
    written(tmp_path, images)
    with (tmp_path / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "fold", *(f"run_{r}" for r in range(5)), "class", "origin"]
    assert [[row[f"run_{run}"] for run in range(5)] for row in rows] == division.split.tolist()
    assert json.loads((tmp_path / "dataset.json").read_text())["folds"] == FOLDS


def test_a_split_cant_be_read_before_a_run_is_chosen(tmp_path: Path) -> None:
    dataset = written(tmp_path, collection([60, 40]))
    with pytest.raises(ValueError, match=r"take for_run\(seed\) first"):
        dataset.rows("test")
    with pytest.raises(ValueError, match="one run's already"):
        dataset.for_run(0).for_run(1)


@pytest.mark.parametrize("seed", [-1, FOLDS])
def test_a_seed_without_a_fold_is_an_input_error(tmp_path: Path, seed: int) -> None:
    dataset = written(tmp_path, collection([60, 40]))
    with pytest.raises(InputError, match=f"seed {seed}: the splits have 5 folds, for the seeds 0"):
        dataset.for_run(seed)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("run_3", "run_x", "index.csv: can't be read"),
        ("1000,", "1000,9", "index.csv: a run does not test its fold"),
        ("train", "validation", "index.csv: has the splits test, validation, expected"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    tmp_path: Path, was: str, becomes: str, message: str
) -> None:
    written(tmp_path, collection([60, 40]))
    index = tmp_path / "index.csv"
    assert was in index.read_text()
    index.write_text(index.read_text().replace(was, becomes))
    with pytest.raises(InputError, match=message):
        arrays.read(tmp_path)


def test_the_stage_writes_folds_of_digits_the_same_each_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = Data(
        name="digits",
        path="unused",
        labels=None,
        image_size=None,
        normalisation="training",
        unusable_files="set_aside",
    )
    settings = Split(
        seed=0, validation_fraction=0.1, test_fraction=0.2, folds=3, max_per_class=None
    )
    download.run(data, tmp_path / "raw", tmp_path / "downloads")
    sha256s = []
    for name in ("first", "second"):
        split.run(data, settings, tmp_path / "raw", tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        sha256s.append({path.name: hashlib.sha256(path.read_bytes()).digest() for path in files})
    assert len(sha256s[0]) == 7
    assert sha256s[0] == sha256s[1]
    said = "digits: 3 folds of 599, 599, 599 images of 8x8x1 in 10 classes"
    assert said in capfd.readouterr().err
    dataset = arrays.read(tmp_path / "first")
    sizes = [[len(dataset.for_run(run).rows(name)) for name in SPLITS] for run in range(3)]
    assert sizes == [[1078, 120, 599]] * 3
