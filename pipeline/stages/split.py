"""split: read the source's images, divide them, and write them as arrays."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.data import arrays, audit, splitting, writing
from pipeline.data.own_files import unchanged
from pipeline.data.sources import registry
from pipeline.settings.schema import Data, Split
from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import choose
from pipeline.system.progress import say
from pipeline.system.text import plural


def run(data_settings: Data, split_settings: Split, raw: Path, out: Path) -> None:
    """Divide the images that the download stage put into `raw`; `out` is made or replaced.

    Raises:
        InputError: if `raw` is incomplete, files can't be used and the settings say to stop, or a
            class has too few images.
        StageError: if a person's own images change meanwhile.
    """
    name = choose(data_settings.name, registry.SOURCES, "params.yaml: data.name")
    registry.verify(raw, name)
    source = registry.SOURCES[name]
    with atomic_folder(out, arrays.DESCRIPTION) as folder, unchanged(source, data_settings):
        scratch = folder / "scratch"
        scratch.mkdir()
        collection = source.read(raw, data_settings, scratch)
        audit.check(collection, data_settings.unusable_files)
        if split_settings.folds is None:
            divide = partial(splitting.divide, test_fraction=split_settings.test_fraction)
        else:
            divide = partial(splitting.divide_into_folds, folds=split_settings.folds)
        division = divide(
            collection,
            seed=split_settings.seed,
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
    shape = "x".join(map(str, dataset.images.shape[1:]))
    rejected = f"; {dataset.rejected} set aside, see {out / arrays.REJECTED}"
    say(
        f"{name}: {sizes} images of {shape} in {len(dataset.classes)} classes"
        f"{rejected if dataset.rejected else ''}"
    )
    counts = np.bincount(dataset.labels)
    if max(counts) > 2 * min(counts):
        say(
            f"{name}: the largest class has {max(counts):,} images, the smallest {min(counts):,}; "
            "report.judged_by and train.class_weights can let them count the same"
        )
    if dataset.official:
        what = "the set's own" if dataset.fold is None else "pooled for the folds"
        say(f"{name}: {', '.join(dataset.official)}: {what}")
    if dataset.groups is not None:
        say(f"{name}: {plural(dataset.groups, 'group')}, none of them in two splits")
    if dataset.duplicates.across_splits:
        count = dataset.duplicates.test_images
        say(
            f"{name}: {plural(count, 'test image')} {'lies' if count == 1 else 'lie'} in train or "
            f"validation too, pixel for pixel; see {out / arrays.DUPLICATES}"
        )
    near = dataset.near_duplicates
    if near is not None and near.pairs:
        say(
            f"{name}: {plural(near.pairs, 'pair')} of images in two splits "
            f"{'shows' if near.pairs == 1 else 'show'} the same (resized, compressed, cropped or "
            f"mirrored), with {plural(near.test_images, 'test image')}; see "
            f"{out / arrays.NEAR_DUPLICATES}"
        )
