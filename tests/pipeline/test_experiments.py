"""Experiments in a copy of the last commit, with images that git doesn't track."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import blocks
from tests.projects import Project

pytestmark = pytest.mark.slow


@pytest.fixture
def own_images(fresh: Project) -> Project:
    """A project with images of two classes in data/local, and those as its data."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("cat", "a dog")):
        folder = fresh.root / "data" / "local" / name
        folder.mkdir()
        for number in range(20):
            pixels = random.integers(0, 100, (20, 30, 3)) + 150 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    fresh.edit("  name: digits ", "  name: image_folder ")
    fresh.commit("own images")
    return fresh


def test_experiments_in_copies_have_the_images_as_the_page_says(own_images: Project) -> None:
    """Its commands, up to the splits: what follows reads these."""
    (block,) = [block for block in blocks("docs/experiments.md") if "images+=" in block.text]
    script = re.sub(r"(-n margin-\d)$", r"\1 split", block.text, flags=re.MULTILINE)
    assert script.count(" split") == 2
    done = own_images.run("bash", "-e", "-c", script)
    assert "20 test images" in done.stderr
    for name in ("margin-6", "margin-8"):
        own_images.dvc("exp", "branch", name, f"{name}-kept")
        own_images.run("git", "checkout", "--quiet", "--force", f"{name}-kept")
        own_images.dvc("checkout", "--force", "download", "split")
        manifest = (own_images.root / "data" / "raw" / "manifest.csv").read_text()
        assert manifest.count(".png") == 40


def test_experiment_in_a_copy_without_the_images_says_how_to_take_them_along(
    own_images: Project,
) -> None:
    done = own_images.dvc("exp", "run", "--temp", "-S", "report.margin=0.4", "download", expect=255)
    said = done.stdout + done.stderr
    assert "name each class's folder with --copy-paths, or have data.path be absolute" in said
    assert "Traceback" not in said
