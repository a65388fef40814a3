"""The errors a person sees as one line, and the exit codes that go with them."""

from __future__ import annotations

import difflib
import errno
import reprlib
from collections.abc import Iterable

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
SHORTENED = reprlib.Repr()
SHORTENED.maxstring = SHORTENED.maxlong = SHORTENED.maxother = 80  # characters
SHORTENED.maxlevel = 3
# what others call a choice that a list of settings names
SYNONYMS = {"swish": "silu", "se": "channel", "squeeze_excitation": "channel", "avg": "average"}


class InputError(Exception):
    """The person's input is wrong (exit code 2).

    The message names the thing, its value, what would be right and where to change it.
    """

    exit_code = 2


class StageError(Exception):
    """A stage failed though its input was valid (exit code 1), such as a loss that is NaN."""

    exit_code = 1


def format_os_error(error: OSError) -> str:
    """Return what the system says on one line, and what to do where its disk is full."""
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror or str(error)
    if error.errno in FULL_DISK:
        return f"{where}{what}: the disk is full; make room on it, then run the same command again"
    return f"{where}{what}"


def suggestion(value: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name closest to `value`, or ``""``.

    That is its synonym; or else what is spelt alike, in capitals or not.
    """
    names, lower = list(known), value.lower()
    meant = SYNONYMS.get(lower)
    close = [meant] if meant in names else difflib.get_close_matches(value, names, n=1)
    close = close or difflib.get_close_matches(lower, names, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def choose(value: str, known: Iterable[str], where: str) -> str:
    """Return `value` if it is one of `known`.

    Args:
        value: the name that was given.
        known: the names that exist.
        where: the place to change it, such as ``params.yaml: model``.

    Raises:
        InputError: if it is not known; the message lists the known names and the closest one.
    """
    names = list(known)
    if value not in names:
        raise InputError(not_one_of(where, value, names))
    return value


def not_one_of(where: str, value: object, known: Iterable[str]) -> str:
    """Return what a message says of a value out of a list, with the closest known name."""
    names = list(known)
    close = suggestion(value, names) if isinstance(value, str) else ""
    return f"{where}: {shown(value)} is not one of {', '.join(names)}{close}"


def shown(value: object) -> str:
    """Return a value as a message quotes it: on one line, and not longer than helps."""
    return SHORTENED.repr(value)
