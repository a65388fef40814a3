"""Which sub-folders of a folder of images are the splits of a set, and which are classes.

Sets are published as ``train/``, ``val/`` and ``test/`` with the classes' folders below. What may
be read in two ways is refused: a person can rename a folder in a second, and a wrong guess is a
wrong result that looks right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pipeline.system.errors import InputError
from pipeline.system.text import printable

NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
WORD = re.compile(r"[a-z]+")


def split_of(name: str) -> str | None:
    """Return the split that a folder or a cell of a table names, in any case, or None."""
    return NAMES.get(name.strip().lower())


def split_folders(names: Sequence[str], where: str) -> dict[str, str]:
    """Return the split of each sub-folder by its name; nothing where they are classes.

    Args:
        names: of all sub-folders.
        where: the setting that names the folder, for the errors.

    Raises:
        InputError: if some are named as splits and others aren't, two name the same split, none is
            for training, or all are nearly named as splits.
    """
    splits = {name: split for name in names if (split := split_of(name))}
    others = [name for name in names if name not in splits]
    if not splits:
        _refuse_nearly(names, where)
        return {}
    first = printable(next(iter(splits)))
    if others:
        raise InputError(
            f"{where}: '{first}' is the name of a split, but '{printable(others[0])}' lies beside "
            f"it; if '{first}' is a class, rename it (such as '{first}_class'); if it holds one "
            f"split of the set, move '{printable(others[0])}' elsewhere"
        )
    by_split: dict[str, str] = {}
    for name, split in splits.items():
        other = by_split.setdefault(split, name)
        if other != name:
            raise InputError(
                f"{where}: '{printable(other)}' and '{printable(name)}' both name the {split} "
                "split; put the images into one of them"
            )
    if "train" not in by_split:
        raise InputError(
            f"{where}: '{first}' is the name of a split, and there is no 'train' beside it; name "
            "the folder of the training images 'train', or rename the others if they are classes"
        )
    return splits


def no_classes(name: str, where: str, has_files: bool) -> InputError:
    """Return the error for a split's folder `name` that has no sub-folders.

    `has_files` says whether there are files in it.
    """
    what = "has images, but no sub-folder per class" if has_files else "is empty"
    return InputError(
        f"{where}: '{printable(name)}' is the name of a split, and {what}; sort its images into a "
        "sub-folder per class, name their classes in a CSV (data.labels), or move the folder "
        "elsewhere: a split that is missing is drawn from train; if it is a class, rename it"
    )


def refuse_other_classes(classes: Mapping[str, Iterable[str]], where: str) -> None:
    """Raise an `InputError` with the first class that isn't in all splits.

    `classes` are the names of the classes by the name of the split's folder.
    """
    for folder, names in classes.items():
        for other, others in classes.items():
            for name in sorted(set(names) - set(others)):
                raise InputError(
                    f"{where}: class '{printable(name)}' is in '{printable(folder)}', but not in "
                    f"'{printable(other)}'; give every split the same classes: add "
                    f"'{printable(other)}/{printable(name)}', or take the class out of the others"
                )


def refuse_splits_in_classes(inside: Mapping[str, Iterable[str]], where: str) -> None:
    """Raise an `InputError` if every class has the splits' folders in it.

    `inside` are the names of the sub-folders of each class.
    """
    found = {name: {split_of(each) for each in names} - {None} for name, names in inside.items()}
    if all(len(splits) > 1 for splits in found.values()):
        first = printable(next(iter(found)))
        raise InputError(
            f"{where}: the classes hold folders that are named as splits, such as those of "
            f"'{first}'; turn it round, 'train/{first}' instead of '{first}/train', or rename them "
            "if they are none"
        )


def _refuse_nearly(names: Sequence[str], where: str) -> None:
    """Raise an `InputError` if all names have that of a split in them, such as ``seg_train``."""
    found = {
        name: {split for word in WORD.findall(name.lower()) if (split := split_of(word))}
        for name in names
    }
    if found and all(found.values()) and len(set().union(*found.values())) > 1:
        named = " and ".join(f"'{printable(name)}'" for name in list(found)[:2])
        raise InputError(
            f"{where}: {named} seem to be the splits of a set; name them 'train', 'val' and "
            "'test', each with a sub-folder per class; if they are classes, give them other names"
        )
