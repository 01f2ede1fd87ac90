"""Tuned thresholds: the best F1 there is, in the middle of where it holds, shrunk for rare classes."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.thresholds import best_threshold, fit_thresholds

Simulate = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_no_other_threshold_has_a_better_f1(simulate: Simulate) -> None:
    scores, targets = (values[:, 0] for values in simulate(0, 40, 1, levels=5))
    found = best_threshold(scores, targets == 1)
    assert found is not None
    best = max(f1_score(targets, scores > limit) for limit in [-1.0, *scores.tolist()])
    assert f1_score(targets, scores > found) == pytest.approx(best)


def test_the_middle_of_the_interval_is_taken() -> None:
    assert best_threshold(np.array([0.9, 0.7, 0.3, 0.1]), np.array([1, 1, 0, 0], bool)) == pytest.approx(0.5)
    assert best_threshold(np.array([0.8, 0.4]), np.array([1, 1], bool)) == pytest.approx(0.2)
    # F1 is 2/3 both after the first and after the fourth score: the second interval is the wider one
    tied = best_threshold(np.array([0.9, 0.8, 0.7, 0.6, 0.2]), np.array([1, 0, 0, 1, 0], bool))
    assert tied == pytest.approx(0.4)


def test_common_threshold_is_best_for_micro_f1(simulate: Simulate) -> None:
    scores, targets = simulate(2, 60, 3)
    common = fit_thresholds(scores, targets).common
    best = evaluate_scores(scores, targets, ["a", "b", "c"], common)["of1"]
    others = [
        evaluate_scores(scores, targets, ["a", "b", "c"], t)["of1"] for t in np.linspace(0, 1, 101).tolist()
    ]
    assert best >= max(others)
    assert best > evaluate_scores(scores, targets, ["a", "b", "c"])["of1"]


def test_rare_classes_lean_on_the_common_threshold(simulate: Simulate) -> None:
    scores, targets = simulate(3, 400, 3)
    targets[:, 1] = 0
    targets[np.argsort(-scores[:, 2])[:5], 2] = 1
    targets[np.argsort(-scores[:, 2])[5:], 2] = 0
    fitted, free = (fit_thresholds(scores, targets, shrinkage=shrinkage) for shrinkage in (5, 0))
    assert fitted.per_class[1] == fitted.common == free.per_class[1]
    assert fitted.per_class[2] == pytest.approx((fitted.common + free.per_class[2]) / 2)  # 5 / (5 + 5)
    for column in (0, 2):
        best = best_threshold(scores[:, column], targets[:, column] == 1)
        assert free.per_class[column] == pytest.approx(best)
