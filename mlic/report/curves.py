"""Points of precision-recall and ROC curves: micro, macro and of one class. Unknown labels are left out."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from mlic.evaluation.metrics import known_labels
from mlic.evaluation.predictions import Predictions

GRID = np.linspace(0, 1, 201)
MAX_POINTS = 400  # of a drawn curve; more are not visible and enlarge the files

Points = tuple[np.ndarray, np.ndarray]


def precision_recall(scores: np.ndarray, targets: np.ndarray) -> Points:
    """Return recall (ascending) and precision at each distinct score; arguments (n,) with at least one positive.

    As in scikit-learn, except that the curve begins at recall 0 with the precision of the highest score instead of 1.
    """
    precision, recall, _ = precision_recall_curve(targets, scores)
    precision[-1] = precision[-2]
    return recall[::-1], precision[::-1]


def roc(scores: np.ndarray, targets: np.ndarray) -> Points:
    """Return false and true positive rates of scikit-learn; arguments (n,) with both outcomes."""
    false_rate, true_rate, _ = roc_curve(targets, scores)
    return false_rate, true_rate


def find_curve(kind: str, predictions: Predictions, average: str, name: str = "") -> Points | None:
    """Return the curve of all labels pooled, of one class, or the mean curve over the classes.

    The mean curve has 201 points from 0 to 1. For `pr`, the precision of a class at a recall is that of the highest
    threshold that reaches this recall. For `roc`, its true positive rate is interpolated between false positive rates.
    Classes without a curve are excluded.

    Args:
        kind: `pr` or `roc`.
        predictions: scores and targets.
        average: `micro`, `macro` or `class`.
        name: name of the class.

    Returns:
        (x, y), thinned to MAX_POINTS; None without the class, without positives or, for `roc`, with only one outcome.
    """
    if average == "micro":
        return _curve(kind, predictions.scores, predictions.targets)
    if average == "macro":
        return _macro_curve(kind, predictions)
    if name not in predictions.classes:
        return None
    column = predictions.classes.index(name)
    return _curve(kind, predictions.scores[:, column], predictions.targets[:, column])


def _macro_curve(kind: str, predictions: Predictions) -> Points | None:
    heights = []
    for scores, targets in map(known_labels, predictions.scores.T, predictions.targets.T):
        if not _has_curve(kind, targets):
            continue
        if kind == "pr":
            recall, precision = precision_recall(scores, targets)
            # a tolerance for rounding: recall is a sum of fractions
            reached = np.searchsorted(recall, GRID - 1e-9)
            heights.append(precision[np.minimum(reached, len(precision) - 1)])
        else:
            heights.append(np.interp(GRID, *roc(scores, targets)))
    return (GRID, np.mean(heights, axis=0)) if heights else None


def _curve(kind: str, scores: np.ndarray, targets: np.ndarray) -> Points | None:
    scores, targets = known_labels(scores, targets)
    if not _has_curve(kind, targets):
        return None
    return _thin(*(precision_recall if kind == "pr" else roc)(scores, targets))


def _has_curve(kind: str, targets: np.ndarray) -> bool:
    return bool(targets.any()) and (kind == "pr" or not targets.all())


def _thin(x: np.ndarray, y: np.ndarray) -> Points:
    """Keep points at even steps along the curve, including both ends."""
    if len(x) <= MAX_POINTS:
        return x, y
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)))
    kept = np.unique(np.concatenate([[0], kept, [len(x) - 1]]))
    return x[kept], y[kept]
