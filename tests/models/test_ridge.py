"""Ridge regression in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from mlic.errors import InputError
from mlic.evaluation.calibration import fit_class_calibration
from mlic.evaluation.ranking import Ranking
from mlic.models import BlendHead, ridge
from mlic.models.ridge import RidgeHead, RidgeSystem, fit_ridge


def refit(features: torch.Tensor, targets: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias by the normal equations with an intercept without penalty."""
    ones = torch.ones(len(features), 1, dtype=features.dtype)
    extended = torch.cat([features, ones], dim=1)
    penalties = torch.full((extended.shape[1],), penalty, dtype=features.dtype)
    penalties[-1] = 0
    solved = torch.linalg.solve(extended.T @ extended + penalties.diag(), extended.T @ targets)
    return solved[:-1].T, solved[-1]


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(4, 30), width=st.integers(1, 40), penalty=st.floats(0.01, 100), grouped=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_left_out_scores_equal_refits_without_the_group(rows, width, penalty, grouped, seed):
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=random, dtype=torch.float64) + 1
    targets = (torch.rand(rows, 3, generator=random) < 0.4).double()
    groups = torch.arange(rows) // (3 if grouped else 1)
    system = RidgeSystem(lambda wanted: features[wanted], targets, torch.arange(rows))
    weight, bias = refit(features, targets, penalty)
    torch.testing.assert_close(system.weights(penalty), (weight, bias), atol=1e-8, rtol=1e-8)
    scores = system.left_out_scores([penalty, 3.0], groups, torch.arange(rows))[0]
    for row in range(rows):
        others = groups != groups[row]
        weight, bias = refit(features[others], targets[others], penalty)
        torch.testing.assert_close(scores[row], weight @ features[row] + bias, atol=1e-8, rtol=1e-8)


def test_chunks_and_both_forms_give_the_same(monkeypatch: pytest.MonkeyPatch):
    random = torch.Generator().manual_seed(0)
    features = torch.randn(60, 20, generator=random, dtype=torch.float64)
    targets = (torch.rand(60, 2, generator=random) < 0.4).double()
    groups = torch.arange(60) // 7
    whole = RidgeSystem(lambda wanted: features[wanted], targets, torch.arange(60))
    expected = whole.weights(2.0), whole.left_out_scores([2.0], groups, torch.arange(60))
    monkeypatch.setattr(ridge, "CHUNK_ROWS", 10)
    chunked = RidgeSystem(lambda wanted: features[wanted], targets, torch.arange(60))
    found = chunked.weights(2.0), chunked.left_out_scores([2.0], groups, torch.arange(60))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    # features of 0 turn the F x F form into the N x N form without changing the solution
    wide = torch.cat([features, torch.zeros(60, 50)], dim=1)
    dual = RidgeSystem(lambda wanted: wide[wanted], targets, torch.arange(60))
    assert dual.axes.shape == (70, 20)
    weight, bias = dual.weights(2.0)
    torch.testing.assert_close((weight[:, :20], bias), expected[0], atol=1e-8, rtol=1e-8)


def data(rows: int = 120, width: int = 12) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(0)
    features = random.normal(size=(rows, width))
    labels = (features[:, :3] + random.normal(size=(rows, 3)) > 0.5).astype(np.int8)
    return torch.from_numpy(features), labels


def test_unknown_labels_are_left_out_of_their_class_alone():
    features, labels = data()
    hidden = labels.copy()
    hidden[::3, 1] = -1
    whole, some = RidgeHead((12,), 3, penalties=0.5), RidgeHead((12,), 3, penalties=0.5)
    fit_ridge(whole, lambda rows: features[rows], labels)
    fit_ridge(some, lambda rows: features[rows], hidden)
    torch.testing.assert_close(some.linear.weight[[0, 2]], whole.linear.weight[[0, 2]], atol=1e-6, rtol=1e-5)
    known = torch.from_numpy(hidden[:, 1] >= 0)
    weight, _ = refit(
        some.transform(features)[known].double(), torch.from_numpy(labels)[known].double(), 0.5 * 12
    )
    torch.testing.assert_close(some.linear.weight[1].double(), weight[1], atol=1e-6, rtol=1e-5)


def test_the_penalty_is_the_best_by_leave_one_out_and_the_head_stands_alone():
    features, labels = data()
    head = RidgeHead((3, 2, 2), 3)
    result = fit_ridge(head, lambda rows: features[rows].reshape(-1, 3, 2, 2), labels)
    assert result.chosen == max(result.curve, key=lambda point: point["map"])["penalty"]
    assert len(result.curve) == 17
    copy = RidgeHead((3, 2, 2), 3)
    copy.load_state_dict(head.state_dict())
    with torch.no_grad():
        probabilities = copy(features.reshape(-1, 3, 2, 2)).sigmoid().numpy()
    # left-out scores are less certain than those of a head that saw the image
    assert result.scores.shape == (120, 3)
    losses = [
        -np.log(np.where(labels == 1, scores, 1 - scores)).mean() for scores in (probabilities, result.scores)
    ]
    assert losses[0] < losses[1] < np.log(2)


def test_a_blend_trains_its_dense_part_and_scores_with_both():
    features, labels = data()
    head = BlendHead((12,), 3, weight=0.25, hidden=(8,), dropout=0.0)
    head.fit_closed_form(lambda rows: features[rows], labels)
    inputs = features.float()
    torch.testing.assert_close(head.train()(inputs), head.dense(inputs))
    torch.testing.assert_close(head.eval()(inputs), 0.75 * head.ridge(inputs) + 0.25 * head.dense(inputs))
    assert all(name.startswith("dense.") for name, value in head.named_parameters() if value.requires_grad)


def test_calibration_finds_the_parameters_of_frequent_classes_and_draws_rare_ones_to_the_common_ones():
    random = np.random.default_rng(0)
    scores = random.normal(size=(20_000, 3)) * [1, 0.1, 5] + [0, 0.3, -2]
    true_slope, true_offset = np.array([2.0, 15.0, 0.3]), np.array([-1.0, -6.0, -0.5])
    targets = (random.random(scores.shape) < expit(true_slope * scores + true_offset)).astype(np.int8)
    slope, offset = fit_class_calibration(scores, targets)
    np.testing.assert_allclose(slope, true_slope, rtol=0.1)
    np.testing.assert_allclose(offset, true_offset, rtol=0.15)
    rare = np.full((20_000, 1), -1, dtype=np.int8)
    rare[:40, 0] = 0
    rare[scores[:40, 0].argmax(), 0] = 1  # perfectly separated: without a prior the slope would be infinite
    slope, _ = fit_class_calibration(
        np.column_stack([scores, scores[:, 0]]), np.column_stack([targets, rare])
    )
    assert 0 < slope[3] < 4


@pytest.mark.parametrize("value", [0, 1])
def test_a_class_with_one_label_has_its_frequency(value):
    features, labels = data()
    labels[:, 1] = value
    head = RidgeHead((12,), 3)
    head.fit_closed_form(lambda rows: features[rows], labels)
    probability = head(features.flip(1)).sigmoid()[:, 1]
    assert (probability - value).abs().max() < 0.02


@pytest.mark.parametrize("known", [0, 1, 10])
def test_classes_without_two_groups_of_known_labels_change_no_other_class(known):
    features, labels = data()
    labels[known:, 1] = -1
    groups, penalties = np.arange(120) // 10, (0.5, 1)
    head, others = RidgeHead((12,), 3, penalties=penalties), RidgeHead((12,), 2, penalties=penalties)
    fit = fit_ridge(head, lambda rows: features[rows], labels, groups)
    expected = fit_ridge(others, lambda rows: features[rows], labels[:, [0, 2]], groups)
    np.testing.assert_allclose(fit.scores[:, [0, 2]], expected.scores, atol=0.01)
    assert np.ptp(fit.scores[:, 1]) == 0
    with pytest.raises(InputError, match="in different groups"):
        fit_ridge(head, lambda rows: features[rows], labels, np.zeros(120, dtype=int))


def test_features_that_tell_nothing_have_no_leave_one_out_precision():
    _, labels = data()
    fit = fit_ridge(RidgeHead((12,), 3), lambda rows: torch.ones(len(rows), 12), labels)
    rank = Ranking(fit.scores.T, labels.T == 1, 120)
    assert (rank.summarise()[0][:, 0] < labels.mean(axis=0) + 0.05).all()


def test_penalties_below_the_precision_of_features_are_not_chosen(monkeypatch: pytest.MonkeyPatch):
    random = torch.Generator().manual_seed(0)
    features = torch.cat([data()[0].float(), torch.randn(120, 300, generator=random)], dim=1)
    labels = data()[1]
    fit = fit_ridge(RidgeHead((312,), 3, penalties=[1, 1e-12]), lambda rows: features[rows], labels)
    assert fit.chosen == 312
    assert np.isfinite(fit.scores).all()
    with pytest.raises(InputError, match=r"head\.penalties.*too small"):
        fit_ridge(RidgeHead((312,), 3, penalties=1e-12), lambda rows: features[rows], labels)
    monkeypatch.setattr(ridge, "LARGEST_SYSTEM", 10)
    with pytest.raises(InputError, match=r"120 images with 312 features each are too many"):
        fit_ridge(RidgeHead((312,), 3), lambda rows: features[rows], labels)
