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

    name: str  # empty where git can't tell it
    changed: bool = False
    why_unknown: str = ""  # in git's own words, on one line


def commit(folder: Path) -> Commit:
    """Return the commit of the git repository around `folder`, or why git can't tell it."""
    try:
        name = _git(folder, "log", "-1", "--no-show-signature", "--format=%H")
        status = _git(folder, "status", "--porcelain", "--", ".", *RESULTS)
    except FileNotFoundError:
        return Commit("", why_unknown="git is not installed")
    except subprocess.TimeoutExpired as error:
        return Commit("", why_unknown=f"git did not answer within {error.timeout:.0f} s")
    except subprocess.CalledProcessError as error:
        return Commit("", why_unknown=" ".join(error.stderr.split()).removeprefix("fatal: "))
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


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
