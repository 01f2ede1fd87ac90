import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.preprocessing import StandardScaler

from mlic.features.dataset import MemoryRows
from mlic.verification import cross_validation
from mlic.verification.cross_validation import cross_validated_scores


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Features (90, 12), labels (90, 3) that follow from them but for noise, and three folds."""
    random = np.random.default_rng(0)
    features = random.normal(5, 3, (90, 12)).astype(np.float32)
    logits = (features - 5) @ random.normal(0, 0.4, (12, 3)) + [0, -1, -2] + random.normal(0, 1, (90, 3))
    return features, (logits > 0).astype(np.uint8), np.array_split(random.permutation(90), 3)


def scores_of(
    features: np.ndarray, labels: np.ndarray, folds: list[np.ndarray], strength: float
) -> np.ndarray:
    return cross_validated_scores(MemoryRows(torch.from_numpy(features)), labels, folds, strength=strength)


@pytest.mark.parametrize("strength", [0.003, 1.0])
def test_scores_are_those_of_scikit_learn(problem, monkeypatch: pytest.MonkeyPatch, strength: float):
    monkeypatch.setattr(cross_validation, "TOLERANCE", 1e-7)
    features, labels, folds = problem
    scores = scores_of(features, labels, folds, strength)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    for fold in folds:
        others = np.setdiff1d(np.arange(90), fold)
        for column in range(3):
            # float32 ends the descent when single steps drown in its rounding
            model = Reference(C=strength, tol=1e-8, max_iter=1000).fit(scaled[others], labels[others, column])
            expected = model.predict_proba(scaled[fold])[:, 1]
            np.testing.assert_allclose(scores[fold, column], expected, atol=1e-3)


def test_an_image_is_scored_without_its_own_labels(problem):
    features, labels, folds = problem
    changed = labels.copy()
    changed[folds[0]] ^= 1
    before, after = scores_of(features, labels, folds, 0.1), scores_of(features, changed, folds, 0.1)
    np.testing.assert_array_equal(before[folds[0]], after[folds[0]])
    assert np.abs(before[folds[1]] - after[folds[1]]).min() > 1e-5


def test_a_class_that_all_training_images_of_a_fold_have(problem):
    features, labels, folds = problem
    labels[:, 0] = 1
    labels[folds[0][0], 0] = 0
    scores = scores_of(features, labels, folds, 0.1)
    assert np.isfinite(scores).all() and scores[folds[0], 0].min() > 0.9
