from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from pipeline.evaluation.calibration import (
    Reliability,
    brier_score,
    expected_calibration_error,
    pooled,
    reliability,
)


def predictions(images: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, K) of an overconfident classifier, and labels (N,)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes))
    logits[np.arange(images), labels] += 1
    return softmax(3 * logits, axis=1), labels


def slow_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al., equations 1 to 3, an image and a bin at a time."""
    error = 0.0
    for m in range(1, 16):
        confidences, hits = [], []
        for row, label in zip(probabilities, labels, strict=True):
            if (m - 1) / 15 < row.max() <= m / 15:
                confidences.append(row.max())
                hits.append(row.argmax() == label)
        if hits:
            error += len(hits) / len(labels) * abs(np.mean(hits) - np.mean(confidences))
    return error


@pytest.mark.parametrize("classes", [2, 4, 30])
def test_calibration_error_is_that_of_the_paper(classes: int):
    probabilities, labels = predictions(500, classes, classes)
    found = expected_calibration_error(reliability(probabilities, labels))
    assert found == pytest.approx(slow_calibration_error(probabilities, labels), abs=1e-12)
    assert found > 0.05


def test_each_prediction_is_in_the_bin_that_its_confidence_names():
    probabilities = np.array([[0.55, 0.45], [0.6, 0.4], [0.61, 0.39], [1.0, 0.0], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 1, 0, 0, 1]))
    assert found.counts.dtype == np.int64
    # 0.6 is 9 / 15, the upper end of the bin with index 8
    assert np.flatnonzero(found.counts).tolist() == [8, 9, 14]
    assert found.counts[[8, 9, 14]].tolist() == [2, 1, 2]
    assert found.confidence[[8, 9, 14]] == pytest.approx([0.575, 0.61, 1.0])
    assert found.accuracy[[8, 9, 14]] == pytest.approx([0.5, 1.0, 0.5])
    assert np.isnan(found.confidence[found.counts == 0]).all()
    assert np.isnan(found.accuracy[found.counts == 0]).all()


def test_certainty_that_rounding_took_past_one_is_in_the_last_bin():
    found = reliability(np.array([[np.nextafter(1, 2), 0.0]]), np.array([0]))
    assert found.counts[-1] == 1


def test_a_classifier_that_knows_its_errors_is_calibrated():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 200_000)
    labels = (probabilities.cumsum(axis=1) < generator.random((200_000, 1))).sum(axis=1)
    assert expected_calibration_error(reliability(probabilities, labels)) < 0.005


def test_one_who_is_always_sure_is_off_by_the_share_of_errors():
    probabilities, labels = np.tile([0.0, 1.0], (10, 1)), np.array([1] * 7 + [0] * 3)
    assert expected_calibration_error(reliability(probabilities, labels)) == pytest.approx(0.3)
    assert brier_score(probabilities, labels) == pytest.approx(2 * 0.3)


def test_pooled_runs_are_as_one_run_of_all_their_predictions():
    parts = [predictions(images, 5, seed) for seed, images in enumerate((100, 3, 250))]
    together = reliability(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    found = pooled([reliability(*part) for part in parts])
    assert isinstance(found, Reliability)
    assert found.counts.tolist() == together.counts.tolist()
    np.testing.assert_allclose(found.confidence, together.confidence)
    np.testing.assert_allclose(found.accuracy, together.accuracy)


@pytest.mark.parametrize("classes", [3, 10])
def test_brier_score_is_scikit_learns(classes: int):
    probabilities, labels = predictions(300, classes, 7)
    expected = brier_score_loss(
        labels, probabilities, labels=np.arange(classes), scale_by_half=False
    )
    assert brier_score(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_brier_score_of_two_classes_is_twice_that_of_one():
    probabilities, labels = predictions(300, 2, 8)
    expected = 2 * ((probabilities[:, 1] - labels) ** 2).mean()
    assert brier_score(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_brier_score_follows_its_definition():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    expected = ((0.3**2 + 0.2**2 + 0.1**2) + (0.0 + 0.5**2 + 0.5**2)) / 2
    assert brier_score(probabilities, np.array([0, 2])) == pytest.approx(expected)
