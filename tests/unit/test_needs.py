"""Tests whose programs are missing are counted and named with what installs them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests import needs


def test_program_is_found_by_any_of_its_names_and_in_the_systems_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(needs, "SYSTEM", str(tmp_path / "sbin"))
    monkeypatch.setattr(needs, "is_root", lambda: False)
    everything = ("chromium", "root", "sshd")
    assert needs.missing(everything) == everything
    for program in ("bin/google-chrome", "sbin/sshd"):
        (tmp_path / program).parent.mkdir()
        (tmp_path / program).touch(mode=0o755)
    assert needs.missing(everything) == ("root",)
    assert needs.find("chromium") == str(tmp_path / "bin" / "google-chrome")


def test_closing_line_counts_what_was_left_out_and_says_what_installs_it() -> None:
    left_out = Counter({("sshd",): 3, ("munged", "root", "slurmctld"): 8})
    assert needs.closing_line(left_out, Counter({"no GPU here": 42})) == (
        "Left out: 53 tests: 8 need munged, root, slurmctld; 3 need sshd "
        "(apt-get install munge slurm-wlm openssh-server, run as root); 42 skipped: no GPU here"
    )
