"""Checksums of files, and the error when one is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.system.errors import InputError


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check(path: Path, expected: str, algorithm: str, remedy: str) -> None:
    """Raise an `InputError` with the `remedy` unless the file has this checksum (hexadecimal)."""
    actual = checksum(path, algorithm)
    if actual != expected:
        raise InputError(wrong(str(path), expected, actual, algorithm, remedy))


def wrong(thing: str, expected: str, actual: str, algorithm: str, remedy: str) -> str:
    """Return the message for a wrong checksum."""
    return f"{thing}: wrong {algorithm} checksum: expected {expected}, got {actual}; {remedy}"
