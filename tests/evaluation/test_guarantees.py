import numpy as np
import pytest
from scipy.stats import binom

from mlic.errors import InputError
from mlic.evaluation.guarantees import decide, find_threshold, fit_guarantees
from mlic.evaluation.predictions import Predictions


def draw(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are the true probabilities, so that the precision of a threshold is known."""
    generator = np.random.default_rng(seed)
    scores = generator.beta(0.3, 0.6, (images, 1))
    return scores, (generator.random(scores.shape) < scores).astype(np.int8)


@pytest.mark.parametrize(("kind", "level"), [("precision", 0.9), ("precision", 0.8), ("recall", 0.9)])
def test_new_images_reach_the_level_as_often_as_promised(kind: str, level: float):
    scores, targets = draw(200_000, 0)
    found = [find_threshold(*draw(800, seed), kind, level) for seed in range(1, 201)]
    reached = []
    for threshold in (each.threshold for each in found):
        above = scores > (np.inf if threshold is None else threshold)
        value = targets[above].mean() if kind == "precision" and above.any() else above[targets == 1].mean()
        reached.append(threshold is None or value >= level)
    assert sum(each.threshold is not None for each in found) > 100, "useful"
    # 200 draws that hold with probability 0.9 would be fewer only once in a million times
    assert sum(reached) >= binom.ppf(1e-6, 200, 0.9)


def test_recall_is_the_exact_binomial_bound():
    # of 40 positives, 1 may be missed: P(Bin(40, 0.9) >= 39) = 0.08 <= 0.1, but P(>= 38) = 0.22
    scores = np.linspace(0.01, 0.99, 80)[:, None]
    targets = np.tile([[0], [1]], (40, 1))
    found = find_threshold(scores, targets, "recall", 0.9)
    assert found.threshold is not None and (targets[scores > found.threshold] == 1).sum() == 39
    assert found.observed == pytest.approx(39 / 40)


def test_too_few_positives_are_no_promise():
    scores, targets = np.linspace(0.1, 0.9, 50)[:, None], np.zeros((50, 1), dtype=np.int8)
    targets[-21:] = 1  # 0.9 ** 21 > 0.1
    found = find_threshold(scores, targets, "recall", 0.9)
    assert found.threshold is None and "21 positives; at least 22 are needed" in found.reason
    targets[-22:] = 1
    found = find_threshold(scores, targets, "recall", 0.9)
    assert found.threshold == pytest.approx(scores[-23, 0]) and not found.reason
    targets[-23] = -1  # unknown labels take no part
    assert find_threshold(scores, targets, "recall", 0.9).labels == 22


def test_labels_together_and_their_answers():
    scores, targets = (np.tile(each, (1, 3)) for each in draw(600, 3))
    predictions = Predictions(np.arange(600).astype(str), scores, targets, ("a", "b", "c"))
    together = fit_guarantees(predictions, precision=0.8, recall=0.8, per_class=False)
    alone = fit_guarantees(predictions, precision=0.8, recall=0.8)
    for section in ("yes", "no"):
        (common,) = set(together[section]["thresholds"].values())
        own = alone[section]["thresholds"]["a"]
        # three copies of a label say no more than one
        assert common == pytest.approx(own, abs=0.05) if section == "yes" else common <= own + 0.05
    answers = decide(np.array([[0.9, 0.5, 0.1], [np.nan] * 3]), np.full(3, 0.8), np.full(3, 0.2))
    assert answers.tolist() == [["yes", "ask", "no"], [""] * 3]
    for wrong in ({"precision": 1.0}, {"recall": 0.0}, {"precision": 0.5, "confidence": 1.5}):
        with pytest.raises(InputError, match="expected a number between 0 and 1"):
            fit_guarantees(predictions, **wrong)  # pyright: ignore[reportArgumentType]
