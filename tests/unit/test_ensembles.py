"""Ensembles against scipy's softmax and scikit-learn's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

from pipeline.evaluation.ensembles import mean_probabilities, negative_log_likelihood

MEMBERS, IMAGES, CLASSES = 3, 50, 4


@pytest.fixture
def stored(tmp_path: Path) -> list[Path]:
    """Return the files with the logits of each member, as the evaluation stage writes them."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{member}.npy" for member in range(MEMBERS)]
    for path in paths:
        np.save(path, generator.normal(0, 3, (IMAGES, CLASSES)).astype(np.float32))
    return paths


def test_probabilities_are_the_mean_of_the_stored_members(stored: list[Path]) -> None:
    found = mean_probabilities(np.stack([np.load(path) for path in stored]))
    expected = sum(softmax(np.load(path).astype(np.float64), axis=1) for path in stored) / MEMBERS
    assert found.dtype == np.float64
    assert found.shape == (IMAGES, CLASSES)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_it_is_not_the_probabilities_of_the_mean_logits() -> None:
    # One member sure of a outweighs two that lean to b.
    probabilities = np.array([[[0.95, 0.05]], [[0.3, 0.7]], [[0.3, 0.7]]])
    (found,) = mean_probabilities(np.log(probabilities))
    assert found == pytest.approx([1.55 / 3, 1.45 / 3])


def test_likelihood_and_accuracy_are_those_of_the_mean_probabilities(stored: list[Path]) -> None:
    logits = [np.load(path) for path in stored]
    labels = np.random.default_rng(1).integers(0, CLASSES, IMAGES)
    probabilities = np.mean([softmax(z.astype(np.float64), axis=1) for z in logits], axis=0)
    expected = log_loss(labels, probabilities, labels=range(CLASSES))
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected, rel=1e-12)
    answers = mean_probabilities(logits).argmax(axis=1)
    assert accuracy_score(labels, answers) == (probabilities.argmax(axis=1) == labels).mean()


def test_an_ensemble_of_one_is_its_member(stored: list[Path]) -> None:
    logits = np.load(stored[0])
    np.testing.assert_allclose(
        mean_probabilities(logits[np.newaxis]), softmax(logits.astype(np.float64), axis=1)
    )


def test_likelihood_stays_finite_where_all_members_are_sure_of_another_class() -> None:
    logits = np.array([[[2000.0, 0.0]], [[1000.0, 0.0]]])
    # exp(-2000) is nothing beside exp(-1000), of which the mean over two is half
    expected = 1000 + np.log(2)
    assert negative_log_likelihood(logits, np.array([1])) == pytest.approx(expected)
