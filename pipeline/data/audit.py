"""What becomes of the files that can't be used."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.data.collection import Collection, Rejected
from pipeline.system.errors import InputError
from pipeline.system.progress import say
from pipeline.system.text import plural, printable


def check(collection: Collection, unusable_files: Literal["set_aside", "stop"]) -> None:
    """Stop where files can't be used and `unusable_files` says so, or a class has none left.

    It needs one in each official split, also in a split that has no usable file at all.

    Raises:
        InputError: in these two cases, after a line on each such file with its reason.
    """
    if collection.rejected and unusable_files == "stop":
        _say(collection.rejected)
        files = plural(len(collection.rejected), "file")
        raise InputError(
            f"params.yaml: data.unusable_files: 'stop', and {files} can't be used "
            "(listed above); fix or remove them, or choose 'set_aside'"
        )
    official = collection.official
    splits = {file.split for file in collection.rejected if file.split}
    if official is not None:
        splits |= set(official)
    for split in sorted(splits) or [""]:
        present = collection.labels if official is None else collection.labels[official == split]
        counts = np.bincount(present, minlength=len(collection.classes))
        for label in np.flatnonzero(counts == 0):
            name = collection.classes[label]
            rejected = [
                file
                for file in collection.rejected
                if (file.class_name, file.split) == (name, split)
            ]
            _say(rejected)
            raise InputError(
                f"params.yaml: data.path: class '{printable(name)}' has no usable image"
                f"{f' in the {split} split' if split else ''} "
                f"({plural(len(rejected), 'file')} can't be used, listed above); add images or "
                "remove the class"
            )


def _say(rejected: tuple[Rejected, ...] | list[Rejected]) -> None:
    for file in rejected:
        say(f"{printable(file.path)}: {file.reason}")
