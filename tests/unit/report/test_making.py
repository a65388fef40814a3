"""The section on how the results were made: training, data, provenance."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from pipeline.comparison.design import REPEATED
from pipeline.comparison.runs import read_runs
from pipeline.data import arrays
from pipeline.figures import fonts
from pipeline.figures.learning_curves import draw_learning_curves
from pipeline.system import provenance
from tests.unit.report.made_project import (
    CLASSES,
    TEST_IMAGES,
    Project,
    beside_the_answer,
    data_section,
    first_paragraph,
    section,
    settings,
    stop_early,
    table_under,
    written,
)


def test_runs_of_different_lengths_are_reported(project: Project):
    stop_early(project, "cnn", 1, 3)
    text = project.report(settings())
    assert "Early stopping ended 1 of 8 runs, the first after epoch 3;" in text
    curves = pd.read_csv(project.reports / "plots" / "learning_curves.csv")
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves.notna().all(axis=None)
    runs = pd.read_csv(project.reports / "tables" / "runs.csv").set_index(["model", "seed"])
    assert runs.loc[("cnn", 1), ["epochs", "stopped_early"]].tolist() == [3, True]
    assert runs.loc[("cnn", 0), ["epochs", "stopped_early"]].tolist() == [5, False]


def test_mean_curve_ends_with_the_first_run_and_the_others_go_on(project: Project):
    stop_early(project, "cnn", 1, 3)
    labels = dict(enumerate(project.labels))
    data, fingerprint = project.root / "data", arrays.read(project.splits).fingerprint
    runs = read_runs(
        data / "trained", data / "evaluated", data / "measured", settings(), labels, fingerprint
    )
    runs = {"cnn": runs["cnn"]}
    figure = draw_learning_curves(runs, {"cnn": None}, REPEATED, "cross_entropy")
    mean, *single = figure.axes[0].get_lines()
    losses = [run.history["train_loss"] for run in runs["cnn"]]
    assert mean.get_ydata() == pytest.approx((losses[0][:3] + losses[1][:3]) / 2)
    assert [len(line.get_xdata()) for line in single] == [3, 3]  # epochs 3, 4, 5
    assert single[0].get_ydata() == pytest.approx(losses[0][2:])


def test_the_report_names_the_file_that_a_training_started_from(project: Project):
    assert "Pretrained weights" not in project.report(settings())
    sha256 = "5f" * 32
    for seed in (0, 1):
        path = project.root / "data" / "trained" / "ca_cnn" / str(seed) / "train.json"
        started = {"file": "cnn_1.safetensors", "sha256": sha256, "taken": 17, "adapted": []}
        started |= {"rescaled": ["norm.weight", "norm.bias"], "left_out": ["head.weight"]}
        started |= {"made_new": ["a.weight", "b.weight", "c.weight", "d.weight", "e.weight"]}
        written(path, json.loads(path.read_text()) | {"pretrained": started})
    ((_, row),) = [table_under(project.report(settings()), "Pretrained weights")]
    assert row == [
        *("ca_cnn", "cnn_1.safetensors", sha256, "19"),
        "5: a.weight, b.weight, c.weight, d.weight, ...",
        *("1: head.weight", "0"),
    ]


@pytest.mark.parametrize(
    ("loss", "labels", "shared"),
    [
        ("cross_entropy", ("loss (nats)", ""), True),
        ("mse", ("mse loss", "cross entropy (nats)"), False),
        ("my.losses.focal", ("focal loss", "cross entropy (nats)"), False),
    ],
)
def test_losses_share_a_scale_only_where_they_are_the_same(
    project: Project, loss: str, labels: tuple[str, str], shared: bool
):
    by_seed = dict(enumerate(project.labels))
    data, fingerprint = project.root / "data", arrays.read(project.splits).fingerprint
    runs = read_runs(
        data / "trained", data / "evaluated", data / "measured", settings(), by_seed, fingerprint
    )
    runs = {"cnn": runs["cnn"]}
    training, validation = draw_learning_curves(runs, {"cnn": None}, REPEATED, loss).axes[:2]
    assert (training.get_ylabel(), validation.get_ylabel()) == labels
    assert training.get_shared_y_axes().joined(training, validation) == shared


def test_unusable_files_are_counted_with_their_list_and_setting(
    project: Project, reported: tuple[Project, str]
):
    found = data_section(reported[1])
    assert (
        "3 files could not be used and were skipped (`data.unusable_files`): `rejected.csv`"
        in found
    )
    project.describe(rejected=1)
    assert "1 file could not be used and was skipped" in project.report(settings())
    project.describe(rejected=0)
    assert "skipped" not in data_section(project.report(settings()))


def test_official_splits_and_groups_are_said(project: Project, reported: tuple[Project, str]):
    assert "The set itself" not in reported[1]
    project.describe(official=["train", "test"], groups=12)
    found = data_section(project.report(settings()))
    assert (
        "The set itself says which images are for training and test; the others are drawn." in found
    )
    assert "The images are of 12 groups (`data.labels`). Images of one group never lie in" in found


def test_few_groups_among_the_test_images_are_the_strongest_doubt(project: Project):
    def grouped(size: int) -> str:
        index = pd.read_csv(project.splits / "index.csv")
        index["group"] = "P" + (index.groupby("split").cumcount() // size).astype(str)
        index.to_csv(project.splits / "index.csv", index=False)
        project.describe(groups=int(index["group"].nunique()))
        return project.report(settings())

    (found, *_) = beside_the_answer(grouped(TEST_IMAGES // 4))
    assert found.startswith("- **The test images are of 4 groups**, such as patients")
    assert "such as patients" not in grouped(1)


def test_class_that_no_font_has_is_numbered_where_figures_number_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fonts, "_font_with", lambda character: None)
    classes = ["cat", "猫", *CLASSES[2:]]
    for path in project.root.rglob("*"):
        if path.suffix in (".json", ".csv") and CLASSES[1] in (text := path.read_text()):
            path.write_text(text.replace(CLASSES[1], "猫"))
    project.describe(classes=classes)
    text = project.report(settings())
    assert (
        "Figures number classes, as no installed font has all of their names"
        in (text.partition("\n## ")[0])
    )
    assert "| 猫 (class 2 in figures) |" in section(text, "### Classes")
    assert "Noto Sans CJK (fonts-noto-cjk in Debian) would help: install it" in text


def test_exact_copies_are_reported_and_make_the_accuracy_doubtful(
    project: Project, reported: tuple[Project, str]
):
    assert "copies" not in data_section(reported[1])
    found = {"groups": 2, "images": 5, "across_splits": 1, "across_classes": 0}
    project.describe(duplicates=found | {"test_images": 0})
    text = project.report(settings())
    assert (
        "5 images are exact copies of one another (groups: 2, in more than one split: 1, in "
        in (data_section(text))
    )
    assert not [line for line in beside_the_answer(text) if "duplicates.csv" in line]

    project.describe(duplicates=found | {"test_images": 3})
    text = project.report(settings())
    copied = "3 of 40 test images also occur in training or validation"
    assert f"; but {copied}.**" in first_paragraph(text)
    assert beside_the_answer(text)[0].startswith(f"- **{copied}**")


def test_near_duplicates_are_listed_and_shown(project: Project, reported: tuple[Project, str]):
    assert "near_duplicates" not in reported[1]
    project.describe(near_duplicates={"pairs": 0, "test_images": 0})
    text = project.report(settings())
    assert "No image shows nearly the same as one in another split." in data_section(text)
    index = pd.read_csv(project.splits / "index.csv").to_dict("records")
    one, other = (next(row for row in index if row["split"] == name) for name in ("train", "test"))
    lines = [
        f"1,{row['id']},{row['split']},{row['class']},{origin},true,0.97"
        for row, origin in ((one, "one|and.png"), (other, "other.png"))
    ]
    header = "pair,id,split,class,origin,mirrored,correlation"
    (project.splits / "near_duplicates.csv").write_text("\n".join([header, *lines]) + "\n")
    project.describe(near_duplicates={"pairs": 1, "test_images": 1})
    text = project.report(settings())
    assert "1 pair of images in two splits shows the same, resized, compressed" in text
    assert r"| one\|and.png | train | other.png | test, mirrored |" in text
    assert "](figures/comparison/near_duplicates.png)" in text
    assert (project.reports / "figures" / "comparison" / "near_duplicates.png").exists()
    assert beside_the_answer(text)[0].startswith("- **1 test image shows nearly the same as")


def test_all_of_params_is_quoted_even_with_fences_in_it(project: Project):
    project.params.write_text("# ```yaml\nmodel: ca_cnn\n")
    tokens = MarkdownIt("commonmark").parse(project.report(settings()))
    fences = [token.content for token in tokens if token.type == "fence"]
    assert fences[-1] == "# ```yaml\nmodel: ca_cnn\n"


def test_commit_and_whether_the_code_was_changed(tmp_path: Path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    assert provenance.commit(tmp_path) == provenance.Commit(git("rev-parse", "HEAD"), False)
    (tmp_path / "dvc.lock").write_text("2")  # a result, not code
    assert provenance.commit(tmp_path) == provenance.Commit(git("rev-parse", "HEAD"), False)
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path) == provenance.Commit(git("rev-parse", "HEAD"), True)


def code_row(project: Project) -> str:
    """What the report says of the code's commit."""
    (row,) = [
        line for line in project.report(settings()).splitlines() if line.startswith("| code |")
    ]
    return row


def test_report_says_in_gits_words_why_the_commit_is_not_known(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project.params.parent
    monkeypatch.setenv("LC_ALL", "C")
    assert "commit not known: not a git repository" in code_row(project)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    assert "does not have any commits yet" in code_row(project)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", *identity, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(commit, cwd=root, check=True)
    assert "| commit `" in code_row(project)
    (root / ".git" / "index").write_bytes(b"cut off")  # whether the code was changed is unknown
    assert "commit not known: " in code_row(project)
    assert "index" in code_row(project)
    monkeypatch.setenv("PATH", str(root))
    assert "commit not known: git is not installed" in code_row(project)


@pytest.mark.needs("root")
def test_repository_of_another_user_is_not_called_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers: git trusts no repository of another user but those that HOME names."""
    root = project.params.parent
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("HOME", str(root))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for path in (root, root / ".git"):
        os.chown(path, 12345, 12345)
    assert "dubious ownership" in code_row(project)
    assert "git config --global --add safe.directory" in code_row(project).replace("\\", "")
    assert "not a git repository" not in code_row(project)


@pytest.mark.parametrize("changed", [False, True])
def test_commit_is_checked_out_before_the_report_is_made_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, changed: bool
):
    monkeypatch.setattr(provenance, "commit", lambda folder: provenance.Commit("abc", changed))
    text = project.report(settings())
    tokens = MarkdownIt("commonmark").parse(text)
    (commands, *_) = [token.content for token in tokens if token.type == "fence"]
    assert commands.startswith("git checkout abc\n")
    assert ("# then put the settings below into params.yaml" in commands) == changed
    assert ("with uncommitted changes" in text) == changed
