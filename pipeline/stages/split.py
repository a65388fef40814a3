"""split: read the source's images, divide them, and write them as arrays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from pipeline.data import arrays, audit, sources, splitting, writing
from pipeline.data.arrays import Dataset
from pipeline.data.collection import Collection
from pipeline.data.splitting import Division
from pipeline.settings.schema import Data, Split
from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import choose
from pipeline.system.progress import say


def run(data_settings: Data, split_settings: Split, raw: Path, out: Path) -> None:
    """Divide the images that the download stage got.

    Args:
        data_settings: the section `data` of the settings.
        split_settings: the section `split` of the settings.
        raw: the download stage's output.
        out: the folder to make, usually ``data/splits``; it appears whole or not at all.

    Raises:
        InputError: if `raw` is incomplete, files can't be used and the settings say to stop, or a
            class has too few images.
    """
    name = choose(data_settings.name, sources.SOURCES, "params.yaml: data.name")
    sources.verify(raw, name)
    with atomic_folder(out, arrays.DESCRIPTION) as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        collection = sources.SOURCES[name].read(
            raw, Path(data_settings.path), data_settings.image_size, scratch
        )
        audit.check(collection, data_settings.unusable_files)
        dataset = writing.write(
            folder,
            name,
            collection,
            _divide(collection, split_settings),
            image_size=data_settings.image_size,
            normalisation=data_settings.normalisation,
        )
        shutil.rmtree(scratch)
    _tell(dataset, out)


def _divide(collection: Collection, settings: Split) -> Division:
    if settings.folds is None:
        return splitting.divide(
            collection,
            seed=settings.seed,
            validation_fraction=settings.validation_fraction,
            test_fraction=settings.test_fraction,
            max_per_class=settings.max_per_class,
        )
    return splitting.divide_into_folds(
        collection,
        seed=settings.seed,
        folds=settings.folds,
        validation_fraction=settings.validation_fraction,
        max_per_class=settings.max_per_class,
    )


def _tell(dataset: Dataset, out: Path) -> None:
    if dataset.fold is None:
        sizes = ", ".join(f"{len(dataset.rows(split))} {split}" for split in arrays.SPLITS)
    else:
        sizes = f"{dataset.folds} folds of {', '.join(map(str, np.bincount(dataset.fold)))}"
    size, channels = dataset.image_size, dataset.channels
    aside = (
        f"; {dataset.rejected} set aside, see {out / arrays.REJECTED}" if dataset.rejected else ""
    )
    say(
        f"{dataset.name}: {sizes} images of {size}x{size}x{channels} in {len(dataset.classes)} "
        f"classes{aside}"
    )
    found = dataset.duplicates
    if found.across_splits:
        images = (
            "1 test image lies"
            if found.test_images == 1
            else f"{found.test_images} test images lie"
        )
        say(
            f"{dataset.name}: {images} in train or validation too, pixel for pixel; see "
            f"{out / arrays.DUPLICATES}"
        )
