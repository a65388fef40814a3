"""A person's own images, good and bad, cross-validated by the real engines."""

from __future__ import annotations

import csv
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.figures.fonts import fonts_wanted
from tests.projects import Project, checkout

pytestmark = pytest.mark.slow

CLASSES = ("chat noir", "猫")
PER_CLASS = 12
UNUSABLE = {"chat noir/truncated.JPG", "猫/empty.png", "猫/notes.jpg"}


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
    if fonts_wanted(CLASSES):
        assert "| 猫 (class 2 in figures) |" in report
        assert "Noto Sans CJK (fonts-noto-cjk in Debian) would help: install it" in report
    else:
        assert "in figures)" not in report

    # a file that becomes readable is noticed, and one more that isn't ends the run where asked
    Image.new("RGB", (9, 9)).save(project.root / "data" / "my images" / CLASSES[1] / "empty.png")
    project.edit("  unusable_files: set_aside ", "  unusable_files: stop ")
    done = project.dvc("repro", "split", expect=None)
    assert done.returncode != 0
    assert "notes.jpg" in done.stderr
    assert "data.unusable_files" in done.stderr
    assert "empty.png" not in done.stderr


# --- what DVC compares is what the stages read ----------------------------------------------------


@pytest.fixture
def listed(tmp_path: Path) -> Project:
    """Own images in ``data/local``, after ``dvc repro download``."""
    project = checkout(tmp_path / "project")
    project.edit("  name: digits ", "  name: image_folder ")
    own_images(local(project))
    project.commit("own images")
    project.dvc("repro", "download")
    return project


def local(project: Project) -> Path:
    return project.root / "data" / "local"


def is_stale(project: Project) -> bool:
    """Tell whether DVC finds that the images have changed."""
    return "changed deps" in project.dvc("status", "download").stdout


def repaint(path: Path) -> None:
    """Give an image other pixels."""
    Image.new("RGB", (7, 7), "red").save(path)


def test_a_class_behind_a_link_is_refused_and_hard_links_are_a_cure(listed: Project) -> None:
    name, elsewhere = CLASSES[0], listed.root.parent / "elsewhere"
    lock = (listed.root / "dvc.lock").read_text()
    (local(listed) / name).rename(elsewhere)
    (local(listed) / name).symlink_to(elsewhere)
    message = f"data.path: 'data/local': DVC would not see images change: 'data/local/{name}' is"
    for command in (
        ("dvc", "repro", "download"),
        ("snakemake", "--cores", "1", "data/raw"),
        (sys.executable, "-m", "pipeline", "check"),
    ):
        refused = listed.run(*command, expect=None)
        assert refused.returncode != 0
        assert message in refused.stderr, command
    assert (listed.root / "dvc.lock").read_text() == lock

    (local(listed) / name).unlink()
    listed.run("cp", "-rlL", str(elsewhere), str(local(listed) / name))
    assert not is_stale(listed)
    repaint(elsewhere / "no 0.png")
    assert is_stale(listed)
    listed.dvc("repro", "download")
    assert not is_stale(listed)


def test_a_link_to_another_file_and_another_content_behind_it_are_changes(listed: Project) -> None:
    one, other = (listed.root.parent / f"{name}.png" for name in ("one", "other"))
    Image.new("RGB", (7, 7), "blue").save(one)
    Image.new("RGB", (7, 7), "green").save(other)
    link = local(listed) / CLASSES[0] / "linked.png"
    link.symlink_to(one)
    assert is_stale(listed)
    listed.dvc("repro", "download")
    assert not is_stale(listed)
    repaint(one)
    assert is_stale(listed)
    listed.dvc("repro", "download")
    link.unlink()
    link.symlink_to(other)
    assert is_stale(listed)


@pytest.mark.parametrize("reached", ["by a link", "by its path"])
def test_images_outside_of_the_project_are_seen_to_change(listed: Project, reached: str) -> None:
    elsewhere = listed.root.parent / "large disk"
    if reached == "by a link":
        local(listed).rename(elsewhere)
        local(listed).symlink_to(elsewhere)
    else:
        shutil.copytree(local(listed), elsewhere)
        listed.edit("  path: data/local ", f"  path: {elsewhere} ")
        listed.dvc("repro", "download")
    assert not is_stale(listed)
    repaint(elsewhere / CLASSES[0] / "no 0.png")
    assert is_stale(listed)
    listed.dvc("repro", "download")
    assert not is_stale(listed)


def test_a_table_of_labels_that_changes_is_a_change_of_the_images(listed: Project) -> None:
    files = [path.relative_to(local(listed)) for path in sorted(local(listed).rglob("no *.png"))]
    table = local(listed) / "labels.csv"

    def write(groups: int) -> None:
        """Write a table in which every image is of one of so many groups."""
        rows = [f"{file},{file.parts[0]},{row % groups}" for row, file in enumerate(files)]
        table.write_text("\n".join(["file,class,group", *rows]) + "\n")

    write(12)
    listed.edit("  labels: null ", "  labels: labels.csv ")
    listed.dvc("repro", "split")
    index = listed.root / "data/splits/index.csv"
    assert {row["group"] for row in csv.DictReader(index.open())} == set(map(str, range(12)))
    assert not is_stale(listed)
    write(8)
    assert is_stale(listed)
    listed.dvc("repro", "split")
    assert {row["group"] for row in csv.DictReader(index.open())} == set(map(str, range(8)))


def test_images_that_keep_changing_leave_no_record(listed: Project) -> None:
    lock = (listed.root / "dvc.lock").read_text()
    changing = local(listed) / CLASSES[0] / "no 0.png"
    ended = threading.Event()

    def keep_changing() -> None:
        colour = 0
        while not ended.wait(0.01):
            colour = (colour + 1) % 256
            Image.new("RGB", (7, 7), (colour, 0, 0)).save(changing)

    thread = threading.Thread(target=keep_changing)
    thread.start()
    try:
        failed = listed.dvc("repro", "download", expect=None)
    finally:
        ended.set()
        thread.join()
    assert failed.returncode != 0
    assert f"data/local/{CLASSES[0]}/no 0.png: has changed since this stage began" in failed.stderr
    assert (listed.root / "dvc.lock").read_text() == lock
    listed.dvc("repro", "download")
    assert not is_stale(listed)


def test_images_that_were_recorded_but_not_listed_are_not_split(listed: Project) -> None:
    """As if an image came between the end of the stage and DVC's checksums."""
    repaint(local(listed) / CLASSES[0] / "new.png")
    listed.dvc("commit", "--force", "download")
    assert not is_stale(listed)
    failed = listed.dvc("repro", "split", expect=None)
    assert failed.returncode != 0
    assert "new.png: is new since the images were listed" in failed.stderr
    listed.dvc("repro", "--force", "--single-item", "download")
    listed.dvc("repro", "split")
    assert f"{CLASSES[0]}/new.png" in (listed.root / "data/splits/index.csv").read_text()


def test_images_that_were_recorded_but_not_listed_are_listed_again(listed: Project) -> None:
    repaint(local(listed) / CLASSES[0] / "no 0.png")
    listed.dvc("commit", "--force", "download")
    said = listed.run(sys.executable, "-m", "pipeline", "check").stderr
    assert "download is not what dvc.lock records" in said
    assert "from other files in data/local than those recorded" in said
    listed.snakemake("data/splits")
    assert "download" in listed.ran()
    said = listed.run(sys.executable, "-m", "pipeline", "check").stderr
    assert "is not what dvc.lock records" not in said
    assert "up to date" in listed.dvc("status", "download", "split").stdout


def test_dvc_fails_at_the_outputs_behind_a_link_that_check_refuses(listed: Project) -> None:
    (listed.root / "data").rename(listed.root.parent / "large disk")
    (listed.root / "data").symlink_to(listed.root.parent / "large disk")
    repaint(local(listed) / CLASSES[0] / "no 0.png")
    assert "is outside of git repository" in listed.dvc("repro", "download", expect=255).stderr
    refused = listed.run(sys.executable, "-m", "pipeline", "check", expect=2)
    assert refused.stderr.startswith("error: data: is a link, and DVC takes no outputs behind one")
