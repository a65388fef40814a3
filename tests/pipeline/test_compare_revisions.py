"""`python -m pipeline compare REV_A REV_B`: real runs, read from DVC's cache without a checkout."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.data import arrays
from tests.projects import Done, Project, checkout, copied

pytestmark = pytest.mark.slow

SEEDS = (0, 1)
RUNS = [f"evaluate@ca_cnn-{seed}" for seed in SEEDS]
LONGER = ("--set-param", "train.epochs=8")


@dataclass(frozen=True)
class History:
    """A project with commits and an experiment, and what was right in each of them."""

    project: Project
    right: dict[str, list[np.ndarray]]  # by revision, of each run bool (its test images,)


def answers(project: Project) -> list[np.ndarray]:
    """Which of its test images each network in the workspace gets right, bool (images,)."""
    dataset = arrays.read(project.root / "data" / "splits")
    evaluated = project.root / "data" / "evaluated" / "ca_cnn"
    found = []
    for seed in SEEDS:
        labels = dataset.labels[dataset.for_run(seed).rows("test")]
        logits = np.load(evaluated / str(seed) / "logits.npy")
        found.append(logits.argmax(axis=1) == labels)
    return found


def run_and_commit(project: Project, tag: str, *stages: str) -> None:
    project.dvc("repro", *stages)
    project.commit(tag)
    project.run("git", "tag", tag)


def change_code(project: Project, path: str, tag: str) -> None:
    """Commit another code than that of the first commit, which never runs."""
    project.run("git", "checkout", "--quiet", "first", ".")
    with (project.root / path).open("a") as file:
        file.write("# an afterthought\n")
    project.commit(tag)
    project.run("git", "tag", tag)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    project = checkout(tmp_path_factory.mktemp("history") / "project")
    right = {}
    run_and_commit(project, "first", *RUNS)
    right["first"] = answers(project)
    project.dvc("exp", "run", "--name", "longer", *LONGER, *RUNS)
    right["longer"] = answers(project)
    project.run("git", "checkout", "--quiet", ".")

    project.edit("seeds: [0, 1]", "seeds: [1, 2]")
    run_and_commit(project, "other-seeds", "evaluate@ca_cnn-1", "evaluate@ca_cnn-2")
    project.run("git", "checkout", "--quiet", "first", ".")

    project.edit("  folds: null ", "  folds: 2 ")
    run_and_commit(project, "folds", *RUNS)
    right["folds"] = answers(project)
    project.dvc("exp", "run", "--name", "longer-folds", *LONGER, *RUNS)
    right["longer-folds"] = answers(project)
    project.run("git", "checkout", "--quiet", ".")

    project.edit("  epochs: 2 ", "  epochs: 3 ")
    project.commit("settings that never ran")
    project.run("git", "tag", "settings-never-run")
    lock = project.root / "dvc.lock"
    lock.write_text(lock.read_text().replace("epochs: 2\n", "epochs: 3\n"))
    project.commit("a lock that says they did")
    project.run("git", "tag", "false-lock")
    change_code(project, "pipeline/training/step.py", "code-never-run")

    project.run("git", "checkout", "--quiet", "first", ".")
    project.edit("  max_per_class: 30 ", "  max_per_class: 20 ")
    project.commit("splits that were never made")
    project.run("git", "tag", "splits-never-made")
    change_code(project, "pipeline/data/splitting.py", "code-never-split")

    # as `git merge -X ours` leaves it: the splits of one branch, what they are made from of another
    project.run("git", "checkout", "--quiet", "first", ".")
    other = yaml.safe_load(project.run("git", "show", "folds:dvc.lock").stdout)
    mine = yaml.safe_load(lock.read_text())
    splits = [
        next(out["md5"] for out in of["stages"]["split"]["outs"] if out["path"] == "data/splits")
        for of in (mine, other)
    ]
    lock.write_text(lock.read_text().replace(*splits))
    project.commit("splits of another branch")
    project.run("git", "tag", "merged")

    project.run("git", "checkout", "--quiet", "first", ".")
    text = lock.read_text().replace("evaluate@ca_cnn-", "evaluate@cnn-")
    lock.write_text(text.replace("data/evaluated/ca_cnn/", "data/evaluated/cnn/"))
    project.commit("evaluations under another name")
    project.run("git", "tag", "renamed")

    project.run("git", "rm", "--quiet", "dvc.yaml", "dvc.lock")
    project.commit("no pipeline")
    # nothing but git and DVC's cache is left
    shutil.rmtree(project.root / "data")
    return History(project, right)


def compare(history: History, *arguments: str, expect: int = 0) -> Done:
    project = history.project
    before = project.hashes("**/*")
    command = ("python", "-B", "-m", "pipeline", "compare", *arguments)  # writes no compiled code
    done = project.run(*command, expect=expect)
    assert project.hashes("**/*") == before
    assert not (project.root / "data").exists()
    return done


def printed(history: History, *arguments: str) -> dict[str, Any]:
    return json.loads(compare(history, *arguments, "--json").stdout)


def refusal(history: History, *arguments: str) -> str:
    message = compare(history, *arguments, expect=2).stderr
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_a_commit_and_an_experiment_are_compared_from_the_cache(history: History) -> None:
    found = printed(history, "first", "longer", "--model", "ca_cnn")
    candidate, baseline = (np.stack(history.right[name]) for name in ("longer", "first"))
    by_seed = 100 * (candidate.mean(axis=1) - baseline.mean(axis=1))
    assert found["gain_by_seed"] == pytest.approx(list(by_seed))
    assert found["candidate_accuracy"] == pytest.approx(100 * candidate.mean())
    assert (found["seeds"], found["images"]) == candidate.shape
    swapped = printed(history, "longer", "first", "--model", "ca_cnn")
    assert swapped["gain"] == pytest.approx(-found["gain"])


def test_the_candidate_of_each_revision_is_compared_if_no_model_is_named(history: History) -> None:
    named = printed(history, "first", "longer", "--model", "ca_cnn")
    assert printed(history, "first", "longer") == named
    text = compare(history, "first", "longer").stdout
    assert text.startswith("longer (ca_cnn) against first (ca_cnn): ")


def test_folds_are_compared_as_folds(history: History) -> None:
    found = printed(history, "folds", "longer-folds")
    right = [np.concatenate(history.right[name]) for name in ("longer-folds", "folds")]
    assert found["gain"] == pytest.approx(100 * (right[0].mean() - right[1].mean()))
    assert found["degrees_of_freedom"] == 1
    assert (found["seeds"], found["images"]) == (2, len(right[0]))
    assert "2 folds: " in compare(history, "folds", "longer-folds").stdout


def test_revisions_with_other_test_images_are_refused(history: History) -> None:
    message = refusal(history, "first", "folds")
    assert "first and folds: the test images of seed 0 differ (" in message
    assert "run one of them with the split of the other" in message


def test_a_single_common_seed_is_refused_with_the_reason(history: History) -> None:
    message = refusal(history, "first", "other-seeds")
    assert "first and other-seeds have 1 seed in common: how much another seed would" in message


def test_revisions_with_the_same_networks_are_refused(history: History) -> None:
    message = refusal(history, "first", "first")
    assert "all answers are the same, mistakes too" in message


def test_what_does_not_exist_is_named(history: History) -> None:
    assert "nonsense: no such git revision or DVC experiment" in refusal(
        history, "nonsense", "first"
    )
    assert "HEAD:params.yaml: can't be read" in refusal(history, "HEAD:params.yaml", "first")
    message = refusal(history, "first", "longer", "--model", "ca_cn")
    assert "longer: --model: 'ca_cn' is not one of ca_cnn" in message
    assert "(did you mean 'ca_cnn'?)" in message
    assert "HEAD: no stage of its dvc.yaml writes data/evaluated" in refusal(
        history, "first", "HEAD"
    )


def test_results_that_are_not_in_the_cache_are_named(history: History, tmp_path: Path) -> None:
    project = copied(history.project, tmp_path / "copy")
    shutil.rmtree(project.root / ".dvc" / "cache")
    message = refusal(History(project, {}), "first", "longer")
    assert "is neither in DVC's cache nor in its remote; get it there with dvc fetch" in message


def test_evaluations_of_another_architecture_are_refused(history: History) -> None:
    message = refusal(history, "first", "renamed", "--model", "cnn")
    assert "renamed: data/evaluated/cnn/0 is of another architecture than cnn" in message


def test_splits_of_another_branch_are_refused(history: History) -> None:
    message = refusal(history, "first", "merged", "--model", "ca_cnn")
    assert (
        "merged: data/splits is of another run than data/splits.json, as after a merge" in message
    )


@pytest.mark.parametrize(
    ("tag", "output", "reason"),
    [
        ("settings-never-run", "data/evaluated/ca_cnn/0", "params.yaml: train.epochs: 2, now 3"),
        ("false-lock", "data/evaluated/ca_cnn/0", "params.yaml: train.epochs: 2, now 3"),
        ("code-never-run", "data/evaluated/ca_cnn/0", "pipeline/training"),
        ("splits-never-made", "data/splits", "params.yaml: split.max_per_class: 30, now 20"),
        ("code-never-split", "data/splits", "pipeline/data/splitting.py"),
    ],
)
def test_what_a_revision_holds_but_never_ran_is_refused(
    history: History, tag: str, output: str, reason: str
) -> None:
    message = refusal(history, "first", tag, "--model", "ca_cnn")
    assert f"{tag}: {output} was made with others than it holds: {reason}" in message
    assert "run the pipeline and commit dvc.lock" in message
