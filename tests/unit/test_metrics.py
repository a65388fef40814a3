"""Metrics against scikit-learn's functions and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix, log_loss

from pipeline.evaluation.metrics import classification_metrics


def test_numbers_worked_out_by_hand() -> None:
    # three images of class a (two found), one of b (found), none of c (predicted once)
    logits = np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]])
    found = classification_metrics(logits, np.array([0, 0, 0, 1]), ("a", "b", "c"))
    assert found.accuracy == 0.75
    assert found.nll == pytest.approx(-np.log([0.7, 0.6, 0.1, 0.5]).mean())
    assert found.confusion == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert dict(found.per_class["a"]) == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert dict(found.per_class["c"]) == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
    }
    assert found.macro_f1 == pytest.approx((0.8 + 1 + 0) / 3)


def test_random_predictions_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(500, 4)).astype(np.float32)
    labels = random.integers(0, 4, 500)
    classes = ("north", "east", "south", "west")
    found = classification_metrics(logits, labels, classes)
    report = classification_report(
        labels, logits.argmax(1), target_names=classes, output_dict=True, zero_division=0
    )
    assert found.accuracy == pytest.approx(report["accuracy"])
    assert found.confusion == confusion_matrix(labels, logits.argmax(1)).tolist()
    for name in classes:
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert getattr(found.per_class[name], ours) == pytest.approx(report[name][theirs])
    probabilities = np.exp(logits.astype(float))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert found.nll == pytest.approx(log_loss(labels, probabilities))


def test_huge_logits_do_not_overflow() -> None:
    found = classification_metrics(np.array([[1e4, 0.0]]), np.array([1]), ("a", "b"))
    assert found.nll == pytest.approx(1e4)
