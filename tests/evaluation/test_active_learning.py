"""The order of images to label: by doubt, and away from those before."""

import numpy as np
import pytest

from mlic.evaluation import active_learning
from mlic.evaluation.active_learning import doubt, informative_order


def test_doubt_is_largest_at_the_thresholds():
    thresholds = np.array([0.2, 0.5, np.inf])
    scores = np.array([[0.2, 0.5, 0.5], [0.3, 0.5, 0.5], [0.3, 0.9, 0.5], [0.0, 1.0, 0.5]])
    doubts = doubt(scores, thresholds)
    assert (np.diff(doubts) < 0).all() and doubts[-1] == pytest.approx(0, abs=1e-3)
    assert doubts[0] == pytest.approx(2 * np.log(2), abs=1e-3)


def test_every_beginning_is_doubtful_and_diverse(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    vectors = rng.random((300, 8))
    vectors[1::2] = vectors[::2]  # each image has a copy
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    doubts = np.repeat(rng.uniform(0.5, 1, 150), 2)
    order = informative_order(doubts, vectors.astype(np.float16))
    assert sorted(order) == list(range(300)) and order[0] == np.argmax(doubts)
    copies = order // 2
    assert len(set(copies[:150])) == 150, "no copy before all others"
    for place in range(1, 100):  # equal to the definition
        distances = 1 - (vectors @ vectors[order[:place]].T).max(axis=1)
        assert (doubts * distances)[order[place]] == pytest.approx((doubts * distances).max(), abs=1e-3)
    monkeypatch.setattr(active_learning, "CANDIDATES", 20)
    monkeypatch.setattr(active_learning, "CHOSEN", 10)
    bounded = informative_order(doubts, vectors)
    assert sorted(bounded) == list(range(300))
    assert set(bounded[:10]) < set(np.argsort(-doubts, kind="stable")[:20])
    assert (np.diff(doubts[bounded[10:]]) <= 0).all()
