"""A person's own files as DVC sees them.

Written against DVC 3.67. What no manual promises, with a test in tests/unit/test_dvc_view.py: that
`DvcIgnoreFilter.find` gives the files of which DVC takes the checksums, and that it takes those of
a dependency of `stage.create` as of any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from pipeline.engines import preflight

IS_INSTALLED = find_spec("dvc") is not None
if IS_INSTALLED:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter
    from dvc.repo import Repo


def refuse_unseen(files: Iterable[Path], folder: Path) -> None:
    """Check that DVC sees all the files of `folder`, in the project that this process runs in.

    Raises:
        InputError: if it leaves one out. Without DVC or a project of it nothing is recorded, nor
            refused.
    """
    if not IS_INSTALLED:
        return
    try:
        root = Repo.find_root()
    except NotDvcRepoError:
        return
    seen = set(DvcIgnoreFilter(localfs, root).find(localfs, localfs.abspath(str(folder))))
    unseen = (_why_unseen(path, folder) for path in files if localfs.abspath(str(path)) not in seen)
    preflight.refuse_unseen(dict(unseen), folder)


def md5(folder: Path) -> dict[str, str]:
    """Return DVC's md5 of a folder by its path, as dvc.lock will have it; nothing without DVC.

    Nor of a folder that it can't read: then it records nothing. DVC keeps what it computes, so that
    it need not read the files again when the stage has ended.
    """
    if not IS_INSTALLED:
        return {}
    try:
        stage = Repo().stage.create(name="look", cmd="true", deps=[str(folder)])
        (dependency,) = stage.deps
        dependency.save()
    except (DvcException, OSError, UnicodeError):
        return {}
    return {dependency.def_path: str(dependency.hash_info.value)}


def _why_unseen(path: Path, folder: Path) -> tuple[str, str]:
    """Return the place on the way to a file that DVC leaves out, and why."""
    for place in (folder / part for part in reversed(path.relative_to(folder).parents)):
        if place != folder and place.is_symlink():
            return str(place), preflight.LINK
        if (place / Repo.DVC_DIR).is_dir():
            return str(place), preflight.PROJECT
    return str(path), preflight.IGNORED
