"""What goes wrong while a file of another stage is read, on one line, with what to run."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.system.errors import InputError


class MissingFileError(InputError):
    """A file that another stage writes is not there."""


class CorruptFileError(InputError):
    """A file that another stage wrote is incomplete, or holds something else."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong while it is read.

    Raises:
        MissingFileError: if it is not there.
        CorruptFileError: if it can't be read, or the block raises an error for what is in it.
    """
    try:
        yield
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except (OSError, ValueError, TypeError, LookupError, OverflowError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        reason = " ".join((reason or str(error)).split())
        raise CorruptFileError(f"{path}: can't be read ({reason})") from None


@contextlib.contextmanager
def remedy(missing: str, corrupt: str) -> Iterator[None]:
    """Add to the error of a file what to run: if it is `missing`, or `corrupt`."""
    try:
        yield
    except MissingFileError as error:
        raise InputError(f"{error}; {missing}") from None
    except CorruptFileError as error:
        raise InputError(f"{error}; {corrupt}") from None


def complete_text(path: Path) -> str:
    """Return the text of a file; raise a ValueError if it ends within a line."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    if not text.endswith("\n"):
        raise ValueError("it ends within a line")
    return text


def load_array(path: Path) -> np.ndarray:
    """Map an array from its file, read-only; a header that lies can't fill the memory.

    Raises:
        MissingFileError: if there is no such file.
        CorruptFileError: if it holds no array of numbers, or not all of it.
    """
    with reading(path):
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # its reader fails in many ways on a corrupt header
            raise ValueError(f"no complete array: {type(error).__name__}") from None
