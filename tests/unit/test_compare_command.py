"""`python -m pipeline compare` with files: what it prints, and what it refuses."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from pipeline.commands.compare import compare_answers, compare_folds
from pipeline.engines import dvc_revision
from pipeline.statistics.criteria import Criteria
from tests.unit.test_command_line import ROOT, refused, run

IMAGES, CLASSES = 2000, 10
CANDIDATE, BASELINE = ["a0.npy", "a1.npy", "a2.npy"], ["b0.npy", "b1.npy", "b2.npy"]
FILES = ("--candidate", *CANDIDATE, "--baseline", *BASELINE, "--labels", "y.npy")


def logits_of(labels: np.ndarray, skill: float, generator: np.random.Generator) -> np.ndarray:
    logits = generator.normal(size=(len(labels), CLASSES))
    logits[np.arange(len(labels)), labels] += skill
    return logits.astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logits of three seeds of two networks, and the labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, IMAGES)
    np.save(tmp_path / "y.npy", labels)
    for names, skill in ((CANDIDATE, 3.0), (BASELINE, 2.5)):
        for name in names:
            np.save(tmp_path / name, logits_of(labels, skill, generator))
    return tmp_path


def printed(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run("compare", *arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def change(folder: Path, name: str, row: object, value: object) -> None:
    array = np.load(folder / name)
    array[row] = value
    np.save(folder / name, array)


def test_json_holds_the_gain_its_interval_and_the_verdict(folder: Path) -> None:
    found = printed(folder, *FILES)
    labels = np.load(folder / "y.npy")
    right = [
        np.stack([np.load(folder / name).argmax(axis=1) == labels for name in names])
        for names in (CANDIDATE, BASELINE)
    ]
    by_seed = 100 * (right[0].mean(axis=1) - right[1].mean(axis=1))
    assert found["gain"] == pytest.approx(by_seed.mean(), rel=1e-9)
    assert found["gain_by_seed"] == pytest.approx(list(by_seed), rel=1e-9)
    assert found["sd_between_seeds"] == pytest.approx(by_seed.std(ddof=1), rel=1e-9)
    assert (found["seeds"], found["images"], found["margin"]) == (3, IMAGES, 0.5)
    degrees, error = found["degrees_of_freedom"], found["standard_error"]
    interval = stats.t.interval(0.95, degrees, loc=found["gain"], scale=error)
    assert (found["low"], found["high"]) == pytest.approx(interval, rel=1e-9)
    p = 2 * stats.t.sf(abs(found["gain"]) / error, degrees)
    assert found["p"] == pytest.approx(p, rel=1e-9)
    assert (found["verdict"], found["reason"]) == ("pays", None)
    assert found["candidate_accuracy"] == pytest.approx(100 * right[0].mean())


def test_the_interval_has_the_confidence_that_is_asked_for(folder: Path) -> None:
    found = printed(folder, *FILES, "--confidence", "0.9875")
    interval = stats.t.interval(
        0.9875, found["degrees_of_freedom"], loc=found["gain"], scale=found["standard_error"]
    )
    assert (found["low"], found["high"]) == pytest.approx(interval, rel=1e-9)


def test_balanced_accuracy_decides_where_it_is_asked_for(folder: Path) -> None:
    labels = np.load(folder / "y.npy")
    rare = np.flatnonzero(labels == 0)[:-20]  # of the first class 20 images are left
    for path in folder.glob("*.npy"):
        np.save(path, np.delete(np.load(path), rare, axis=0))
    labels = np.load(folder / "y.npy")
    for name in CANDIDATE:  # which never learnt it
        change(folder, name, np.flatnonzero(labels == 0), np.eye(CLASSES)[1])
    plain, balanced = printed(folder, *FILES), printed(folder, *FILES, "--balanced")
    by_seed = [
        100 * np.subtract(*(balanced_accuracy_score(labels, np.load(folder / name).argmax(axis=1))
                            for name in names))
        for names in zip(CANDIDATE, BASELINE, strict=True)
    ]  # fmt: skip
    assert balanced["gain_by_seed"] == pytest.approx(by_seed, rel=1e-9)
    assert balanced["candidate_accuracy"] - balanced["baseline_accuracy"] == pytest.approx(
        np.mean(by_seed)
    )
    assert balanced["gain"] < plain["gain"] - 5


def test_networks_are_at_chance_or_not_whatever_the_confidence_of_the_gain() -> None:
    labels = np.repeat([0, 1], 500)
    right = np.tile(np.repeat([True, False], [56, 44]), 10)  # 3.8 standard errors above guessing
    for confidence in (0.95, 0.9999):
        criteria = Criteria(confidence, 0.5)
        found = compare_answers(
            right[None].repeat(2, 0), right[None].repeat(2, 0), labels, criteria
        )
        assert found.judgement.reason != "networks at chance"


def test_balanced_accuracies_of_folds_differ_by_their_gain() -> None:
    draw = np.random.default_rng(0)
    labels = [np.repeat([0, 1], [30, 5]), np.repeat([0, 1], [10, 25])]  # each fold by itself
    ours, theirs = ([draw.random(35) < right for _ in labels] for right in (0.9, 0.7))
    found = compare_folds(ours, theirs, labels, Criteria(0.95, 0.5, "balanced_accuracy"))
    recalls = [
        np.mean([right[of == label].mean() for label in (0, 1)])
        for right, of in zip((*ours, *theirs), (*labels, *labels), strict=True)
    ]
    assert found.candidate_accuracy == pytest.approx(100 * np.mean(recalls[:2]))
    assert found.baseline_accuracy == pytest.approx(100 * np.mean(recalls[2:]))
    assert found.gain.gain == pytest.approx(found.candidate_accuracy - found.baseline_accuracy)


@pytest.mark.parametrize("kind", ["classes", "whole numbers as floats", "probabilities"])
def test_classes_and_probabilities_give_what_logits_give(folder: Path, kind: str) -> None:
    expected = printed(folder, *FILES)
    for name in (*CANDIDATE, *BASELINE):
        logits = np.load(folder / name).astype(np.float64)
        odds = np.exp(logits)
        made = {
            "classes": logits.argmax(axis=1),
            "whole numbers as floats": logits.argmax(axis=1).astype(np.float32),
            "probabilities": (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32),
        }[kind]
        np.save(folder / name, made)
    assert printed(folder, *FILES) == expected


def test_each_file_may_have_its_option(folder: Path) -> None:
    named = [f"--candidate={name}" for name in CANDIDATE]
    named += [part for name in BASELINE for part in ("--baseline", name)]
    assert printed(folder, *named, "--labels", "y.npy") == printed(folder, *FILES)
    mixed = ("--json", "--labels", "y.npy", "--baseline", "b0.npy", "b1.npy", "--margin", "0.5")
    mixed += ("--candidate", *CANDIDATE, "--baseline", "b2.npy")
    assert printed(folder, *mixed) == printed(folder, *FILES)


def test_the_margin_decides_what_pays(folder: Path) -> None:
    verdicts = {
        margin: printed(folder, *FILES, "--margin", margin)["verdict"] for margin in ("0.5", "9")
    }
    swapped = ("--candidate", *BASELINE, "--baseline", *CANDIDATE, "--labels", "y.npy")
    assert verdicts == {"0.5": "pays", "9": "better"}
    assert printed(folder, *swapped)["verdict"] == "worse"


def test_text_says_the_same_as_json(folder: Path) -> None:
    found = printed(folder, *FILES)
    lines = run("compare", *FILES, cwd=folder).stdout.splitlines()
    assert lines[0] == "pays (margin 0.5 points)"
    numbers = [float(number) for number in re.findall(r"[+-]\d+\.\d+", lines[1])]
    assert numbers == pytest.approx([found["gain"], found["low"], found["high"]], abs=0.005)
    assert lines[2].startswith("3 seeds: ")
    assert lines[3].endswith("2,000 test images")


def test_an_undecided_pair_says_what_would_decide_it(folder: Path) -> None:
    labels, generator = np.load(folder / "y.npy"), np.random.default_rng(1)
    for name in (*CANDIDATE, *BASELINE):
        np.save(folder / name, logits_of(labels, 2.5, generator))
    text = run("compare", *FILES, cwd=folder).stdout
    assert text.startswith("undecided: too few ")
    assert re.search(
        r"^an interval of ±0.5 points would take .*[\d,]+ (seeds|test images) in all", text, re.M
    )
    assert printed(folder, *FILES)["reason"] in ("too few seeds", "too few images")


def test_networks_that_guess_are_undecided(folder: Path) -> None:
    generator = np.random.default_rng(2)
    for name in BASELINE:
        np.save(folder / name, generator.integers(0, CLASSES, IMAGES))
    found = printed(folder, *FILES)
    assert (found["verdict"], found["reason"]) == ("undecided", "networks at chance")


def test_five_seeds_of_ten_thousand_images_need_no_torch_and_no_pandas(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, 10_000)
    np.save(tmp_path / "y.npy", labels)
    names = [[f"{network}{seed}.npy" for seed in range(5)] for network in "ab"]
    for name in (*names[0], *names[1]):
        np.save(tmp_path / name, logits_of(labels, 2.5, generator))
    arguments = ("compare", "--candidate", *names[0], "--baseline", *names[1], "--labels", "y.npy")
    script = (
        "import sys; from pipeline.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'torch', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


# what it refuses


def test_a_single_seed_is_refused_with_the_reason(folder: Path) -> None:
    one = ("--candidate", "a0.npy", "--baseline", "b0.npy", "--labels", "y.npy")
    message = refused(folder, "compare", *one)
    assert "--candidate: 1 file, a single seed: how much another seed would differ is" in message


def test_unequal_numbers_of_seeds_and_one_file_twice_are_refused(folder: Path) -> None:
    fewer = ("--candidate", *CANDIDATE, "--baseline", *BASELINE[:2], "--labels", "y.npy")
    assert "--candidate names 3 files, --baseline 2; give as many" in refused(
        folder, "compare", *fewer
    )
    twice = ("--candidate", "a0.npy", "a0.npy", "--baseline", *BASELINE[:2], "--labels", "y.npy")
    assert "--candidate: a0.npy stands there twice" in refused(folder, "compare", *twice)


def test_copies_of_a_seed_are_refused(folder: Path) -> None:
    np.save(folder / "a1.npy", 2 * np.load(folder / "a0.npy"))
    said = "a1.npy: has the answers of a0.npy, all mistakes too; give each seed's own file"
    assert said in refused(folder, "compare", *FILES)


def test_a_file_of_both_networks_is_refused(folder: Path) -> None:
    arguments = ("--candidate", *CANDIDATE, "--baseline", "b0.npy", "b1.npy", "a2.npy")
    said = "--baseline: a2.npy is the candidate's; give each network's own file"
    assert said in refused(folder, "compare", *arguments, "--labels", "y.npy")


def test_files_of_different_lengths_are_refused(folder: Path) -> None:
    np.save(folder / "b1.npy", np.load(folder / "b1.npy")[:-1])
    message = refused(folder, "compare", *FILES)
    assert "b1.npy: holds 1,999 images, but y.npy has 2,000; expected the same" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(folder: Path, value: float) -> None:
    change(folder, "a1.npy", (7, 3), value)
    message = refused(folder, "compare", *FILES)
    assert f"a1.npy: holds {value} in row 7; expected finite numbers" in message


def test_values_that_are_not_probabilities_are_refused(folder: Path) -> None:
    sigmoids = 1 / (1 + np.exp(-np.load(folder / "a2.npy")))
    np.save(folder / "a2.npy", sigmoids)
    message = refused(folder, "compare", *FILES)
    expected = f"row 0 adds up to {sigmoids[0].sum():.3g}; expected 1, or logits"
    assert f"a2.npy: holds values that are not probabilities: {expected}" in message


@pytest.mark.parametrize(("value", "told"), [(10, "10"), (-1, "-1")])
def test_classes_outside_the_labels_are_refused(folder: Path, value: int, told: str) -> None:
    for name in (*CANDIDATE, *BASELINE):
        np.save(folder / name, np.load(folder / name).argmax(axis=1))
    change(folder, "b2.npy", 5, value)
    message = refused(folder, "compare", *FILES)
    assert f"b2.npy: row 5 holds the class {told}, which is not among the labels" in message
    assert "expected 0 to 9, the classes of y.npy" in message


def test_labels_that_the_networks_do_not_know_are_refused(folder: Path) -> None:
    change(folder, "y.npy", 4, 10)
    message = refused(folder, "compare", *FILES)
    assert "y.npy: row 4 holds the class 10" in message
    assert "expected 0 to 9, the classes of a0.npy" in message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a0.npy", np.full(IMAGES, 0.5), "a0.npy: row 0 holds 0.5, which is no class"),
        ("a0.npy", np.ones((IMAGES, 1)), "a0.npy: has the shape (2000, 1); expected predicted"),
        ("a0.npy", np.ones((IMAGES, 9)) * 2, "has 10 columns, but a0.npy has 9"),
        ("a0.npy", np.ones((IMAGES, 2, 2)), "a0.npy: has the shape (2000, 2, 2)"),
        ("a0.npy", np.ones(IMAGES, bool), "a0.npy: holds bool; expected integers or floating"),
        ("a0.npy", np.array(3.0), "a0.npy: has the shape ()"),
        ("a0.npy", np.full(IMAGES, "cat"), "a0.npy: holds <U3"),
        ("y.npy", np.ones((IMAGES, CLASSES)), "y.npy: has the shape (2000, 10); expected true"),
        ("y.npy", np.ones(0), "y.npy: has the shape (0,)"),
    ],
)
def test_what_is_neither_classes_nor_scores_is_refused(
    folder: Path, name: str, content: np.ndarray, told: str
) -> None:
    np.save(folder / name, content)
    assert told in refused(folder, "compare", *FILES)


def test_missing_and_corrupt_files_are_refused(folder: Path) -> None:
    (folder / "b0.npy").write_bytes(b"\x93NUMPY no array")
    assert "b0.npy: can't be read" in refused(folder, "compare", *FILES)
    (folder / "b0.npy").unlink()
    assert "b0.npy: no such file" in refused(folder, "compare", *FILES)


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    for name in (*CANDIDATE, *BASELINE, "y.npy"):
        np.save(tmp_path / name, np.zeros(1, int))
    assert "1 test image: expected at least two" in refused(tmp_path, "compare", *FILES)


@pytest.mark.parametrize("margin", ["inf", "nan", "0", "-0.5"])
def test_a_margin_that_no_gain_could_have_is_refused(folder: Path, margin: str) -> None:
    message = refused(folder, "compare", *FILES, f"--margin={margin}")
    assert "--margin: expected points above 0, such as 0.5, not" in message


def test_what_is_missing_among_the_options_is_named(folder: Path) -> None:
    message = refused(folder, "compare", "--candidate", *CANDIDATE, "--labels", "y.npy")
    assert "compare: give --candidate, --baseline and --labels, or two revisions" in message
    assert "files, not both" in refused(folder, "compare", "HEAD~1", "HEAD", *FILES)
    none = ("--candidate", "--baseline", *BASELINE, "--labels", "y.npy")
    assert refused(folder, "compare", *none) == "error: --candidate: names no file\n"
    last = ("--candidate", *CANDIDATE, "--labels", "y.npy", "--baseline")
    assert refused(folder, "compare", *last) == "error: --baseline: names no file\n"
    assert "1 revision; give two" in refused(folder, "compare", "HEAD")
    assert "--model: names an architecture" in refused(folder, "compare", *FILES, "--model", "cnn")


@pytest.fixture
def revision(tmp_path: Path) -> Path:
    """A git repository with DVC, whose params.yaml is no YAML."""
    (tmp_path / "params.yaml").write_text("model: [\n")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for command in (
        ("git", "init", "--quiet"),
        (sys.executable, "-m", "dvc", "init", "--quiet"),
        ("git", "add", "."),
        ("git", *author, "commit", "--quiet", "--message", "broken"),
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_broken_revision_is_named_with_its_file(revision: Path) -> None:
    assert "error: HEAD: params.yaml: can't be read (" in refused(
        revision, "compare", "HEAD", "HEAD"
    )
    assert "error: HEAD~1: no such git revision" in refused(revision, "compare", "HEAD", "HEAD~1")


def test_defect_of_the_program_is_not_taken_for_a_broken_revision(
    revision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("a defect")

    monkeypatch.setattr(dvc_revision, "_folders", broken)
    (revision / "params.yaml").write_text("model: cnn\n")
    with pytest.raises(AttributeError, match="a defect"):
        dvc_revision.read_revision(revision, "", "cnn")
