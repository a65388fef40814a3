"""What a person reads when the system refuses something."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.system.errors import format_os_error

FULL = Path("/dev/full")  # Linux's disk that is always full
REMEDY = "the disk is full; make room on it, then run the same command again"


def test_full_disk_says_what_to_do() -> None:
    with pytest.raises(OSError, match="No space") as raised, FULL.open("w") as file:
        file.write("text")
    assert format_os_error(raised.value) == f"No space left on device: {REMEDY}"


def test_other_refusals_name_the_file() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "params.yaml")
    assert format_os_error(error) == "params.yaml: No such file or directory"
