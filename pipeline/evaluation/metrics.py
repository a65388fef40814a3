"""How good predictions are: accuracy, per-class measures, confusion, likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part` / `whole`, and 0 where `whole` is."""
    return part / np.maximum(whole, 1)


def classification_metrics(
    logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Return what can be said of predictions on one split.

    Args:
        logits: float (N, K).
        labels: int (N,), in [0, K).
        classes: the K names.

    Returns:
        accuracy in [0, 1]; nll, the mean negative log-likelihood in nats; macro_f1; per_class, with
        precision, recall, f1 and support of each class (0 where a class was never predicted);
        confusion, counts (K, K) with a row for each true class.
    """
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    right, given, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = _share(right, given), _share(right, support)
    f1 = _share(2 * right, given + support)
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return {
        "accuracy": float((predicted == labels).mean()),
        "nll": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "macro_f1": float(f1.mean()),
        "per_class": {
            name: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }
