from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from mlic.evaluation.predictions import Predictions
from mlic.report.curves import Points, find_curve

Made = Callable[..., tuple[np.ndarray, np.ndarray]]


def predictions(scores: np.ndarray, targets: np.ndarray) -> Predictions:
    names = np.array([str(row) for row in range(len(scores))], dtype=object)
    return Predictions(names, scores, targets, tuple(f"c{column}" for column in range(scores.shape[1])))


def known(points: Points | None) -> Points:
    assert points is not None
    return points


def test_areas_are_scikit_learns_with_ties(made: Made):
    scores, targets = made(0, 80, 4)
    scores = np.round(scores, 1)
    found = predictions(scores, targets)
    for column in range(4):
        truth, values = targets[:, column], scores[:, column]
        recall, precision = known(find_curve("pr", found, "class", f"c{column}"))
        # steps that hold the precision up to a recall: what the drawing shows
        area = np.sum(np.diff(recall) * precision[1:]) + recall[0] * precision[0]
        assert area == pytest.approx(average_precision_score(truth, values))
        area = auc(*known(find_curve("roc", found, "class", f"c{column}")))
        assert area == pytest.approx(roc_auc_score(truth, values))
    area = auc(*known(find_curve("roc", found, "micro")))
    assert area == pytest.approx(roc_auc_score(targets.ravel(), scores.ravel()))


def test_macro_curves_by_hand():
    targets = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.uint8)
    scores = np.array([[0.9, 0.9, 0.5], [0.8, 0.8, 0.4], [0.7, 0.2, 0.3], [0.1, 0.1, 0.2]], dtype=np.float32)
    recall, precision = known(find_curve("pr", predictions(scores, targets), "macro"))
    at = dict(zip(np.round(recall, 3).tolist(), precision, strict=True))
    # the first class has precision 1 up to recall 1/2, then 2/3; the second 1; the third has no positive
    assert (at[0.0], at[0.5], at[0.505], at[1.0]) == pytest.approx((1, 1, 5 / 6, 5 / 6))
    false_rate, true_rate = known(find_curve("roc", predictions(scores, targets), "macro"))
    rates = dict(zip(np.round(false_rate, 3).tolist(), true_rate, strict=True))
    assert (rates[0.25], rates[0.5], rates[1.0]) == pytest.approx((0.75, 1, 1))


def test_classes_that_have_no_curve():
    targets = np.array([[1, 0], [1, 0]], dtype=np.uint8)
    found = predictions(np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32), targets)
    assert find_curve("pr", found, "class", "c0") is not None
    assert [find_curve(kind, found, "class", name) for kind, name in (("pr", "c1"), ("roc", "c0"))] == [
        None,
        None,
    ]
    assert find_curve("pr", found, "class", "unknown") is None and find_curve("roc", found, "macro") is None
