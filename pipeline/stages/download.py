"""download: get the source's own files into one folder, complete and checked."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.own_files import unchanged
from pipeline.data.sources import registry
from pipeline.settings.schema import Data
from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import choose
from pipeline.system.progress import say


def run(data_settings: Data, out: Path, downloads: Path) -> dict[str, str]:
    """Fetch the source that `data.name` names; `out` is made or replaced.

    `downloads` keeps finished downloads when a later step fails.

    Returns:
        DVC's md5 of a person's own images, by their path; nothing of other sources.

    Raises:
        InputError: if the source can't be had, its files are not what they should be, or DVC would
            not see when they change.
        StageError: if they change meanwhile.
    """
    name = choose(data_settings.name, registry.SOURCES, "params.yaml: data.name")
    source = registry.SOURCES[name]
    own_files: dict[str, str] = {}
    with atomic_folder(out, "source.json") as folder, unchanged(source, data_settings) as files:
        if files:
            from pipeline.engines import dvc_view  # DVC takes a second to import

            dvc_view.refuse_unseen(files, Path(data_settings.path))
            own_files = dvc_view.md5(Path(data_settings.path))
        obtained_from = source.fetch(folder, data_settings, downloads)
        registry.describe(folder, name, obtained_from)
    say(f"{name} from {obtained_from} is in {out}")
    return own_files
