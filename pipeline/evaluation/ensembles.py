"""Ensembles: several models that answer together, by the mean of their probabilities.

Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles, https://arxiv.org/abs/1612.01474, section 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax


def mean_probabilities(logits: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return the ensemble's probabilities of each class, float64 (N, K).

    Args:
        logits: float (M, N, K), of each member for the same images.
    """
    return np.mean([softmax(member.astype(np.float64), axis=1) for member in logits], axis=0)


def negative_log_likelihood(logits: np.ndarray | Sequence[np.ndarray], labels: np.ndarray) -> float:
    """Return the ensemble's mean negative log-likelihood in nats.

    It is computed from logarithms, so that it stays finite where every member is so sure of
    another class that its probability of the right one rounds to 0.

    Args:
        logits: float (M, N, K), of each member for the same images.
        labels: int (N,), in [0, K).
    """
    images = np.arange(len(labels))
    right = [log_softmax(member.astype(np.float64), axis=1)[images, labels] for member in logits]
    return float(np.log(len(right)) - logsumexp(right, axis=0).mean())
