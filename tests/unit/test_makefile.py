"""What `make lint` makes of what `snakemake --lint` says, which ends with 1 whatever it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KNOWN = "    * Specify a conda environment or container for each rule.:"


@pytest.mark.parametrize(
    ("found", "code"), [(KNOWN, 0), (f"{KNOWN}\n    * No log directive defined:", 2)]
)
def test_lint_fails_at_what_snakemake_finds_but_the_missing_environment(
    found: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("ruff", "mypy", "lint-imports", "snakemake"):
        stand_in = tmp_path / "bin" / program
        stand_in.write_text(f"#!/bin/sh\n[ \"$1\" != --lint ] || {{ echo '{found}' >&2; exit 1; }}")
        stand_in.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = subprocess.run(
        ["make", "lint", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
