"""Points of precision-recall and ROC curves, micro, macro and of one class."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from mlic.evaluation.predictions import Predictions

GRID = np.linspace(0, 1, 201)
MAX_POINTS = 400  # of a drawn curve; more is not seen, and makes large files

Points = tuple[np.ndarray, np.ndarray]


def precision_recall(scores: np.ndarray, targets: np.ndarray) -> Points:
    """Recall (rising) and precision at each distinct score; arguments (n,), a positive among them.

    Scikit-learn's, but the curve begins at recall 0 with the precision of the highest score, not with 1.
    """
    precision, recall, _ = precision_recall_curve(targets, scores)
    precision[-1] = precision[-2]
    return recall[::-1], precision[::-1]


def roc(scores: np.ndarray, targets: np.ndarray) -> Points:
    """False and true positive rate, scikit-learn's; arguments (n,), both outcomes among them."""
    false_rate, true_rate, _ = roc_curve(targets, scores)
    return false_rate, true_rate


def micro_curve(kind: str, predictions: Predictions) -> Points | None:
    """Curve over all labels pooled.

    Args:
        kind: `pr` or `roc`.
        predictions: scores and targets.

    Returns:
        (x, y), thinned to MAX_POINTS; None where there is no positive, or for `roc` only one outcome.
    """
    return _curve(kind, predictions.scores.ravel(), predictions.targets.ravel())


def class_curve(kind: str, predictions: Predictions, name: str) -> Points | None:
    """Curve of one class; as `micro_curve`, and None for a class that the predictions do not have."""
    if name not in predictions.classes:
        return None
    column = predictions.classes.index(name)
    return _curve(kind, predictions.scores[:, column], predictions.targets[:, column])


def macro_curve(kind: str, predictions: Predictions) -> Points | None:
    """Mean over classes at 201 places from 0 to 1.

    For `pr` the precision of a class at a recall is that of the highest threshold which reaches this recall;
    for `roc` its true positive rate is interpolated between false positive rates. Classes without a curve are
    left out.
    """
    heights = []
    for scores, targets in zip(predictions.scores.T, predictions.targets.T, strict=True):
        if not _has_curve(kind, targets):
            continue
        if kind == "pr":
            recall, precision = precision_recall(scores, targets)
            reached = np.searchsorted(recall, GRID - 1e-9)  # recall is a sum of fractions
            heights.append(precision[np.minimum(reached, len(precision) - 1)])
        else:
            heights.append(np.interp(GRID, *roc(scores, targets)))
    return (GRID, np.mean(heights, axis=0)) if heights else None


def _curve(kind: str, scores: np.ndarray, targets: np.ndarray) -> Points | None:
    if not _has_curve(kind, targets):
        return None
    return _thin(*(precision_recall if kind == "pr" else roc)(scores, targets))


def _has_curve(kind: str, targets: np.ndarray) -> bool:
    return bool(targets.any()) and (kind == "pr" or not targets.all())


def _thin(x: np.ndarray, y: np.ndarray) -> Points:
    """Points at even steps along the curve, the ends kept."""
    if len(x) <= MAX_POINTS:
        return x, y
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)))
    kept = np.unique(np.concatenate([[0], kept, [len(x) - 1]]))
    return x[kept], y[kept]
