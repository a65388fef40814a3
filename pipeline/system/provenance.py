"""Where a report comes from: the code's commit, versions and hardware."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "dvc", "snakemake")

# Both engines rewrite these as they run: they are results, not code.
RESULTS = (":(exclude)dvc.lock", ":(exclude)reports", ":(exclude)benchmarks")


@dataclass(frozen=True)
class Commit:
    """The commit of the code, and whether tracked or new files differ from it."""

    name: str
    changed: bool


def commit(folder: Path) -> Commit | None:
    """Return the commit of the git repository around `folder`; None where there is none."""
    name = _git(folder, "rev-parse", "HEAD")
    if name is None:
        return None
    status = _git(folder, "status", "--porcelain", "--", ".", *RESULTS)
    return Commit(name, changed=bool(status))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
