"""Tuned thresholds: the best F1 there is, in the middle of where it holds, shrunk for rare classes."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mlic.errors import InputError
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.thresholds import best_threshold, fit_thresholds

Simulate = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_better_f1(simulate: Simulate, seed: int, levels: int) -> None:
    scores, targets = (values[:, 0] for values in simulate(seed, 40, 1, levels=levels))
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


def test_all_equal_scores_predict_everything_even_at_zero() -> None:
    for value in (0.5, 0.0, 1.0):
        found = best_threshold(np.full(4, value), np.array([1, 0, 0, 0], bool))
        assert found is not None
        assert found < value


def test_neighbouring_numbers_leave_room_for_no_middle() -> None:
    low = 0.5
    high = np.nextafter(low, 1)
    found = best_threshold(np.array([high, low]), np.array([1, 0], bool))
    assert found == low


def test_order_of_images_does_not_matter(simulate: Simulate) -> None:
    scores, targets = simulate(1, 80, 4, levels=20)
    shuffled = np.random.default_rng(0).permutation(80)
    first, second = fit_thresholds(scores, targets), fit_thresholds(scores[shuffled], targets[shuffled])
    assert first.common == second.common
    assert first.per_class.tolist() == second.per_class.tolist()


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
    fitted = fit_thresholds(scores, targets, shrinkage=5)
    assert fitted.per_class[1] == fitted.common == fitted.unshrunk[1]
    assert fitted.per_class[2] == pytest.approx((fitted.common + fitted.unshrunk[2]) / 2)  # 5 / (5 + 5)
    assert abs(fitted.per_class[0] - fitted.unshrunk[0]) < 0.1 * abs(fitted.common - fitted.unshrunk[0])
    free = fit_thresholds(scores, targets, shrinkage=0)
    assert free.per_class.tolist() == pytest.approx(fitted.unshrunk.tolist())


def test_shrinkage_helps_on_new_images(simulate: Simulate) -> None:
    names = [str(index) for index in range(12)]
    gains = []
    for seed in range(10):
        val, new = simulate(seed, 40, 12, share=0.1), simulate(100 + seed, 1000, 12, share=0.1)
        own, shrunk = (
            evaluate_scores(*new, names, fit_thresholds(*val, shrinkage=shrinkage).per_class)["of1"]
            for shrinkage in (0, 5)
        )
        gains.append(shrunk - own)
    assert np.mean(gains) > 0.01


def test_without_any_positive_the_threshold_is_a_half() -> None:
    fitted = fit_thresholds(np.full((3, 2), 0.2), np.zeros((3, 2)))
    assert fitted.common == 0.5
    assert fitted.per_class.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="expected 0 or 1"):
        fit_thresholds(np.full((3, 2), 0.2), np.full((3, 2), 2))
