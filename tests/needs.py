"""Programs that some tests need beside Python, make and git, and the Debian packages of them.

A test says so with ``@pytest.mark.needs("sshd")``. As a program this prints the packages that are
missing here: ``apt-get install $(python3 tests/needs.py)``.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter

PACKAGES = {
    "chromium": "chromium",
    "ip": "iproute2",
    "munged": "munge",
    "npm": "npm",
    "slurmctld": "slurm-wlm",
    "sshd": "openssh-server",
}
ROOT = "root"  # to be it
OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
SYSTEM = "/usr/sbin:/sbin"  # not everyone's PATH has it


def find(program: str) -> str | None:
    """The path of a program of `PACKAGES`; nothing if it is not installed."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM}"
    names = (program, *OTHER_NAMES.get(program, ()))
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def missing(needs: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a test's needs that this machine doesn't have."""
    return tuple(need for need in needs if not (is_root() if need == ROOT else find(need)))


def is_root() -> bool:
    return os.geteuid() == 0


def remedy(absent: tuple[str, ...]) -> str:
    """What to do about missing needs: the command that installs them."""
    packages = [PACKAGES[need] for need in absent if need != ROOT]
    install = [f"apt-get install {' '.join(packages)}"] if packages else []
    return ", ".join([*install, *(["run as root"] if ROOT in absent else [])])


def closing_line(left_out: Counter[tuple[str, ...]], others: Counter[str]) -> str:
    """The tests that did not run, on one line.

    Args:
        left_out: how many, by what they miss.
        others: how many were skipped for another reason, by the reason.
    """
    parts = [f"{count} need {', '.join(absent)}" for absent, count in sorted(left_out.items())]
    absent = {need: None for needs in sorted(left_out) for need in needs}
    if absent:
        parts[-1] += f" ({remedy(tuple(absent))})"
    parts += [f"{count} skipped: {reason}" for reason, count in sorted(others.items())]
    return f"Left out: {left_out.total() + others.total()} tests: {'; '.join(parts)}"


if __name__ == "__main__":
    print(*(PACKAGES[program] for program in missing(tuple(PACKAGES))))
