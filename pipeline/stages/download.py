"""download: get the source's own files into one folder, complete and checked."""

from __future__ import annotations

from pathlib import Path

from pipeline.data import sources
from pipeline.settings.schema import Data
from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import choose
from pipeline.system.progress import say


def run(data_settings: Data, out: Path, downloads: Path) -> None:
    """Fetch the source that `data.name` names; `out` is made or replaced.

    `downloads` keeps finished downloads when a later step fails.

    Raises:
        InputError: if the source can't be had, or its files are not what they should be.
    """
    name = choose(data_settings.name, sources.SOURCES, "params.yaml: data.name")
    with atomic_folder(out, "source.json") as folder:
        obtained_from = sources.SOURCES[name].fetch(folder, Path(data_settings.path), downloads)
        sources.describe(folder, name, obtained_from)
    say(f"{name} from {obtained_from} is in {out}")
