from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score

from pipeline.comparison import doubts
from pipeline.comparison.compare import Comparison, compare
from pipeline.comparison.design import REPEATED
from pipeline.statistics.criteria import Criteria
from tests.unit.made_runs import compared, made_run

LABELS = np.repeat([0, 1], [190, 10])
CLASSES = ("common", "rare")


def unbalanced(common_right: int, rare_right: int) -> Comparison:
    """Compare two networks with so many answers right; the others name the other class."""
    answers = LABELS.copy()
    answers[common_right:190] = 1
    answers[190 + rare_right :] = 0
    logits = 5 * np.eye(2, dtype=np.float32)[answers]
    runs = {
        model: [made_run(model, seed, LABELS, logits, CLASSES) for seed in (0, 1, 2)]
        for model in ("cnn", "ca_cnn")
    }
    architectures = {
        "cnn": {"attention": "none", "baseline": None},
        "ca_cnn": {"attention": "channel", "baseline": "cnn"},
    }
    return compare(runs, architectures, CLASSES, REPEATED, Criteria(0.95, 0.5), [])


def test_good_networks_on_unbalanced_images_are_better_than_guessing():
    comparison = unbalanced(179, 9)  # 94 %: less than naming the common class is right for
    assert doubts.majority_class_accuracy(comparison) == 95
    assert doubts.not_better_than_majority(comparison, ["cnn"]) == ["cnn"]
    assert not any(entry.at_chance for entry in comparison.entries.values())
    expected = (179 / 190 + 9 / 10) / 2
    assert comparison.entries["cnn"].summary.balanced_accuracy == pytest.approx(100 * expected)


def test_network_that_always_predicts_the_majority_class_is_no_better_than_guessing():
    comparison = unbalanced(190, 0)
    assert all(entry.at_chance for entry in comparison.entries.values())
    pair = comparison.entries["ca_cnn"].pair
    assert pair is not None
    assert pair.judgement.reason == "networks at chance"


def test_balanced_accuracy_is_scikit_learns():
    comparison = compared()
    runs = comparison.runs["cnn"]
    truth = np.concatenate([run.labels for run in runs])
    predicted = np.concatenate([run.logits.argmax(axis=1) for run in runs])
    expected = 100 * balanced_accuracy_score(truth, predicted)
    assert comparison.entries["cnn"].summary.balanced_accuracy == pytest.approx(expected)


def test_network_that_guesses_is_no_better_however_lucky():
    # 60 of 100 right in each of two classes is 2.9 standard errors from guessing, 55 is 1.4
    for right, better in ((60, True), (55, False)):
        error = np.sqrt(2 * (right / 100) * (1 - right / 100) / 100) / 2
        assert (right / 100 - norm.ppf(0.975) * error > 0.5) == better
        labels = np.repeat([0, 1], 100)
        answers = np.where(np.tile(np.arange(100) < right, 2), labels, 1 - labels)
        logits = 5 * np.eye(2, dtype=np.float32)[answers]
        runs = {"cnn": [made_run("cnn", 0, labels, logits, CLASSES)]}
        comparison = compare(
            runs, {"cnn": {"attention": "none", "baseline": None}}, CLASSES, REPEATED,
            Criteria(0.95, 0.5), [],
        )  # fmt: skip
        assert comparison.entries["cnn"].at_chance != better


def test_dead_attention_is_constant_and_the_same_everywhere():
    modules = pd.DataFrame(
        {
            "module": ["dead", "scale", "alive"],
            "mean": [0.5, 0.5, 0.5],
            "sd_between": [0.0, 0.1, 0.0],
            "constant": [True, True, False],
        }
    )
    assert doubts.dead(modules) == ["dead"]
