"""split: read the source's images, divide them, and write them as arrays."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.data import arrays, sources, splitting
from pipeline.errors import choose
from pipeline.files import whole
from pipeline.params import Data, Split
from pipeline.progress import say


def run(data_settings: Data, split_settings: Split, raw: Path, out: Path) -> None:
    """Divide the images that the download stage got.

    Args:
        data_settings: the section `data` of the settings.
        split_settings: the section `split` of the settings.
        raw: the download stage's output.
        out: the folder to make, usually ``data/splits``; it appears whole or not at all.

    Raises:
        InputError: if `raw` is not whole, or a class has too few images.
    """
    name = choose(data_settings.name, sources.SOURCES, "params.yaml: data.name")
    sources.verify(raw, name)
    with whole(out, "dataset.json") as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        collection = sources.SOURCES[name].read(
            raw, Path(data_settings.path), data_settings.image_size, scratch
        )
        division = splitting.divide(
            collection,
            seed=split_settings.seed,
            validation_fraction=split_settings.validation_fraction,
            test_fraction=split_settings.test_fraction,
            max_per_class=split_settings.max_per_class,
        )
        dataset = arrays.write(
            folder,
            name,
            collection,
            division,
            image_size=data_settings.image_size,
            normalisation=data_settings.normalisation,
        )
        shutil.rmtree(scratch)
    sizes = ", ".join(f"{len(dataset.rows(split))} {split}" for split in arrays.SPLITS)
    size, channels = dataset.image_size, dataset.channels
    aside = (
        f"; {dataset.rejected} set aside, see {out / arrays.REJECTED}" if dataset.rejected else ""
    )
    say(
        f"{name}: {sizes} images of {size}x{size}x{channels} in {len(dataset.classes)} "
        f"classes{aside}"
    )
