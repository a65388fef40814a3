"""One finished project, made as README says, of which each page gets a copy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import blocks
from tests.docs.reader import Reader, expect_lines
from tests.projects import Project, checkout, shared


def make_environment(root: Path) -> None:
    """Give a project its `.venv`: the tests' own environment, marked as installed."""
    venv = root / ".venv"
    venv.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != ".installed":
            (venv / path.name).symlink_to(path)
    (venv / ".installed").touch()  # newer than the lock file: `make` has nothing to install


def make_photos(root: Path) -> None:
    """Put the images there that the pages ask about."""
    random = np.random.default_rng(0)
    for path, size in (("photos/flower.jpg", (60, 40, 3)), ("test/50000-cat.png", (32, 32, 3))):
        (root / path).parent.mkdir()
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(root / path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke preset with one seed, as README's first command leaves it."""

    def make(root: Path) -> None:
        project = checkout(root)
        project.edit("seeds: [0, 1]", "seeds: [0]")
        project.edit("  epochs: 2 ", "  epochs: 1 ")
        project.commit("one seed, one epoch")
        make_environment(root)
        make_photos(root)
        command, output, *_ = blocks("README.md")
        assert command.text == "make\n"
        reader = Reader(project)
        reader.follow(command)
        expect_lines(output, reader.printed)
        project.run("git", "clone", "--quiet", "--bare", ".", f"{root}.git")
        project.run("git", "remote", "add", "origin", f"{root}.git")
        project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")

    return shared(tmp_path_factory, "finished", make)
