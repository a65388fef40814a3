"""split: read the source's images, divide them, and write them as arrays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from pipeline.data import arrays, audit, sources, splitting, writing
from pipeline.settings.schema import Data, Split
from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import choose
from pipeline.system.progress import say
from pipeline.system.text import plural


def run(data_settings: Data, split_settings: Split, raw: Path, out: Path) -> None:
    """Divide the images that the download stage got.

    Args:
        data_settings: the section `data` of the settings.
        split_settings: the section `split` of the settings.
        raw: the download stage's output.
        out: the folder to make, usually ``data/splits``; it appears complete or not at all.

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
        if split_settings.folds is None:
            division = splitting.divide(
                collection,
                seed=split_settings.seed,
                validation_fraction=split_settings.validation_fraction,
                test_fraction=split_settings.test_fraction,
                max_per_class=split_settings.max_per_class,
            )
        else:
            division = splitting.divide_into_folds(
                collection,
                seed=split_settings.seed,
                folds=split_settings.folds,
                validation_fraction=split_settings.validation_fraction,
                max_per_class=split_settings.max_per_class,
            )
        dataset = writing.write(
            folder,
            name,
            collection,
            division,
            image_size=data_settings.image_size,
            normalisation=data_settings.normalisation,
        )
        shutil.rmtree(scratch)
    if dataset.fold is None:
        sizes = ", ".join(f"{len(dataset.rows(split))} {split}" for split in arrays.SPLITS)
    else:
        sizes = f"{dataset.folds} folds of {', '.join(map(str, np.bincount(dataset.fold)))}"
    size, channels, rejected = dataset.image_size, dataset.channels, ""
    if dataset.rejected:
        rejected = f"; {dataset.rejected} set aside, see {out / arrays.REJECTED}"
    say(
        f"{name}: {sizes} images of {size}x{size}x{channels} in {len(dataset.classes)} classes"
        f"{rejected}"
    )
    if dataset.duplicates.across_splits:
        count = dataset.duplicates.test_images
        say(
            f"{name}: {plural(count, 'test image')} {'lies' if count == 1 else 'lie'} in train or "
            f"validation too, pixel for pixel; see {out / arrays.DUPLICATES}"
        )
