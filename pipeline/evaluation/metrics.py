"""How good predictions are: accuracy, per-class measures, confusion, likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support


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
    every_class = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every_class, zero_division=0.0
    )
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
        "confusion": confusion_matrix(labels, predicted, labels=every_class).tolist(),
    }
