"""A person's own images, good and bad, cross-validated by the real engines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.projects import Project, checkout

pytestmark = pytest.mark.slow

CLASSES = ("chat noir", "Hündin")
PER_CLASS = 12
UNUSABLE = {"chat noir/truncated.JPG", "Hündin/empty.png", "Hündin/notes.jpg"}


def own_images(folder: Path) -> None:
    """Make two classes with a few odd and three unusable files, and a duplicate across folds."""
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name / "more").mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = random.integers(0, 100, (20, 30, 3)) + 150 * label
            kind = ("", "more/")[number % 2]
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / name / f"{kind}no {number}.png")
    Image.fromarray(random.integers(0, 256, (20, 30), dtype=np.uint8)).convert("P").save(
        folder / CLASSES[0] / "palette.gif"
    )
    truncated = folder / CLASSES[0] / "truncated.JPG"
    Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        truncated, format="JPEG"
    )
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    (folder / CLASSES[1] / "empty.png").touch()
    (folder / CLASSES[1] / "notes.jpg").write_text("no image")


def compare_two_on_folds(project: Project) -> None:
    """Ask for own images, two folds and the two small networks."""
    project.leave_architectures("cnn", "ca_cnn")
    project.edit("  name: digits ", "  name: image_folder ")
    project.edit("  path: data/local ", "  path: data/my images ")
    project.edit("  folds: null ", "  folds: 2 ")
    project.edit("  max_per_class: 30 ", "  max_per_class: null ")
    project.commit("own images")


def test_own_images_are_audited_and_cross_validated_by_both_engines(tmp_path: Path) -> None:
    project, reproduced = checkout(tmp_path / "snakemake"), checkout(tmp_path / "dvc")
    for made in (project, reproduced):
        own_images(made.root / "data" / "my images")
        compare_two_on_folds(made)
    project.snakemake()
    reproduced.dvc("repro", "evaluate@ca_cnn-1")
    assert project.hashes("data/splits/*") == reproduced.hashes("data/splits/*") != {}
    logits = "data/evaluated/ca_cnn/1/logits.npy"
    assert project.hashes(logits) == reproduced.hashes(logits) != {}
    assert project.is_clean()
    assert project.plans_nothing()

    splits = project.root / "data" / "splits"
    rejected = {row["path"] for row in csv.DictReader((splits / "rejected.csv").open())}
    assert rejected == UNUSABLE
    folds = [row["fold"] for row in csv.DictReader((splits / "index.csv").open())]
    assert len(folds) == 2 * PER_CLASS + 1
    tested = [
        len(np.load(project.root / "data" / "evaluated" / "cnn" / seed / "logits.npy"))
        for seed in "01"
    ]
    assert tested == [folds.count("0"), folds.count("1")]
    report = (project.root / "reports" / "report.md").read_text()
    assert "3 files" in report
    assert "cross-validation" in report

    # a file that becomes readable is noticed, and one more that isn't ends the run where asked
    Image.new("RGB", (9, 9)).save(project.root / "data" / "my images" / CLASSES[1] / "empty.png")
    project.edit("  unusable_files: set_aside ", "  unusable_files: stop ")
    done = project.dvc("repro", "split", expect=None)
    assert done.returncode != 0
    assert "notes.jpg" in done.stderr
    assert "data.unusable_files" in done.stderr
    assert "empty.png" not in done.stderr
