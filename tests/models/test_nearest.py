"""k nearest neighbours."""

import numpy as np
import pytest
import torch

from mlic.models import NearestHead, nearest


def shares(features: np.ndarray, labels: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Shares among the nearest of the rows that are allowed (N, N) to be neighbours."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    prior = ((labels == 1).sum(axis=0) + 0.5) / ((labels >= 0).sum(axis=0) + 1)
    order = np.argsort(np.where(allowed, -(unit @ unit.T), np.inf), axis=1)
    chosen = labels[order[:, :count]]
    return ((chosen == 1).sum(axis=1) + prior) / ((chosen >= 0).sum(axis=1) + 1)


@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_left_out_scores_equal_those_of_brute_force(rows_at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nearest, "CHUNK_ROWS", rows_at_once)
    monkeypatch.setattr(nearest, "QUERY_ROWS", rows_at_once)
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 2, 2, 2)).astype(np.float32)
    labels = random.choice([-1, 0, 1], p=[0.2, 0.5, 0.3], size=(60, 4)).astype(np.int8)
    groups = np.arange(60) // 3
    head = NearestHead((2, 2, 2), 4, neighbours=[3, 8, 58, 60])
    fit = head.fit_closed_form(lambda rows: torch.from_numpy(features)[rows], labels, groups)
    assert [point["neighbours"] for point in fit.curve] == [3, 8, 58]
    assert fit.chosen == max(fit.curve, key=lambda point: point["map"])["neighbours"]
    flat, others = features.reshape(60, 8), groups[:, None] != groups
    np.testing.assert_allclose(fit.scores, shares(flat, labels, others, int(fit.chosen)), atol=1e-6)
    # outside of training, an image may be its own neighbour
    again = NearestHead((2, 2, 2), 4)
    again.load_state_dict(head.state_dict())
    found = again(torch.from_numpy(features)).sigmoid().numpy()
    everything = np.ones_like(others)
    np.testing.assert_allclose(found, shares(flat, labels, everything, int(fit.chosen)), atol=1e-6)


def test_weights_of_other_features_are_refused():
    head = NearestHead((4,), 2)
    head.fit_closed_form(lambda rows: torch.randn(len(rows), 4), np.eye(2, dtype=np.int8).repeat(4, axis=0))
    with pytest.raises(RuntimeError, match="features"):
        NearestHead((5,), 2).load_state_dict(head.state_dict())
