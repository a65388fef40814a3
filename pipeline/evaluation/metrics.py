"""How good predictions are: accuracy, per-class measures, confusion, likelihood."""

from __future__ import annotations

import numpy as np

from pipeline.storage.records import Classification, ClassScores


def classification_metrics(
    logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> Classification:
    """Return what can be said of predictions on one split.

    Args:
        logits: finite float (N, K).
        labels: int (N,), in [0, K).
        classes: the K names.
    """
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    right, given, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision = right / np.maximum(given, 1)  # 0 for a class that was never predicted
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(given + support, 1)
    exact = logits.astype(np.float64)
    # NumPy's: scipy.special would be a tenth of an evaluation's start
    losses = np.logaddexp.reduce(exact, axis=1) - exact[np.arange(len(labels)), labels]
    return Classification(
        accuracy=float((predicted == labels).mean()),
        balanced_accuracy=float(recall[support > 0].mean()),
        nll=float(losses.mean()),
        macro_f1=float(f1.mean()),
        per_class={
            name: ClassScores(
                precision=float(precision[k]),
                recall=float(recall[k]),
                f1=float(f1[k]),
                support=int(support[k]),
            )
            for k, name in enumerate(classes)
        },
        confusion=confusion.tolist(),
    )
