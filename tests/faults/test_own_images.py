"""Own images that are replaced, by whatever way: what DVC notes is what was read."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.record import REPORTED
from tests.faults.stages import ENGINES, run
from tests.projects import Project, checkout, environment

EDITS = 6
IMAGES = "data/my images"
DIVIDED = {
    "snakemake": ["snakemake", "--cores", "1", "data/splits"],
    "dvc repro": ["dvc", "repro", "split"],
}


def photographs(folder: Path, brightness: int, count: int = 40) -> None:
    """Make two classes of images about as bright as `brightness`."""
    draws = np.random.default_rng(brightness)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = draws.integers(brightness, brightness + 20, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def own_images(root: Path) -> Project:
    project = checkout(root)
    photographs(project.root / IMAGES, 40)
    project.edit("  name: digits ", "  name: image_folder ")
    project.edit("  path: data/local ", f"  path: {IMAGES} ")
    return project


def brightest(project: Project) -> int:
    return int(np.load(project.root / "data/splits/images.npy").max())


@pytest.mark.parametrize("engine", ENGINES)
def test_images_behind_a_link_are_refused_until_they_are_there_themselves(
    engine: str, tmp_path: Path, see: Callable[..., None]
) -> None:
    project = own_images(tmp_path / "project")
    photographs(tmp_path / "brighter", 200)
    project.run(*DIVIDED[engine])
    cats = project.root / IMAGES / "cats"
    shutil.rmtree(cats)
    cats.symlink_to(tmp_path / "brighter" / "cats")
    done = run(DIVIDED[engine], project.root)
    assert done.returncode != 0
    assert "is a link to a folder" in done.stdout + done.stderr
    assert "cp -rL" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    cats.unlink()
    shutil.copytree(tmp_path / "brighter" / "cats", cats)
    project.run(*DIVIDED[engine])
    assert brightest(project) > 200
    assert project.dvc("status", "split").stdout.count("up to date") == 1
    see("class folder replaced by a link", f"`{engine}`", REPORTED, REPORTED)


@pytest.mark.parametrize("engine", ENGINES)
def test_image_replaced_at_any_moment_is_never_taken_for_the_one_that_was_read(
    engine: str, tmp_path: Path, rng: random.Random, see: Callable[..., None]
) -> None:
    """A bright image among dark ones: what is recorded as its set has to hold it."""
    project = own_images(tmp_path / "project")
    began = time.monotonic()
    project.run(*DIVIDED[engine])
    seconds = time.monotonic() - began
    victim = project.root / IMAGES / "dogs" / "7.png"
    for brightness in range(100, 100 + 20 * EDITS, 20):
        dark = victim.read_bytes()
        (project.root / IMAGES / "cats" / "0.png").write_bytes(dark)  # so that there is work
        running = subprocess.Popen(
            DIVIDED[engine],
            cwd=project.root,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0, 1.1) * seconds)
        Image.new("RGB", (64, 64), (brightness,) * 3).save(victim)
        running.wait(600)
        # an image that is replaced after the division has ended is a change for `download` to list
        if "up to date" in project.dvc("status", "download", "split").stdout:
            assert brightest(project) == brightness
        project.run(*DIVIDED[engine])
        assert brightest(project) == brightness
    see("image replaced", f"`{engine}` at its division", REPORTED, REPORTED, EDITS)
