"""The metrics agree with scikit-learn on the known labels, else with figures by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mlic.errors import InputError
from mlic.evaluation.metrics import METRICS, ScoredImages, evaluate_scores

Simulate = Callable[..., tuple[np.ndarray, np.ndarray]]
Names = Callable[[int], list[str]]
PARTS = ("precision", "recall", "f1")
GRID: list[dict[str, Any]] = [
    {"images": images, "classes": classes, "levels": levels, "share": share, "unknown": unknown}
    for images, classes, levels, share, unknown in (
        (60, 5, 0, 0.4, 0), (60, 5, 3, 0.05, 0), (7, 3, 3, 1.0, 0), (40, 1, 3, 0.4, 0), (1, 4, 0, 0.4, 0),
        (60, 5, 0, 0.3, 0.3), (60, 5, 4, 0.3, 0.3), (60, 5, 4, 0.05, 0.7),
    )
]  # fmt: skip


def by_scikit_learn(targets: np.ndarray, predicted: np.ndarray) -> tuple[float, ...]:
    zero: Any = 0  # scikit-learn's stubs know only its default
    return sklearn_metrics.precision_recall_fscore_support(
        targets, predicted, average="binary", zero_division=zero
    )[:3]


def mean(rows: list[Any]) -> list[Any]:
    return [pytest.approx(value) for value in np.mean(rows, axis=0)] if rows else [None] * 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_each_metric_is_scikit_learns_on_the_known_labels(shape: dict, simulate: Simulate, names: Names):
    scores, targets = simulate(3, **shape)
    classes, limits = names(shape["classes"]), np.linspace(0.2, 0.8, shape["classes"])
    result = evaluate_scores(scores, targets, classes, limits)
    predicted, known = scores > limits, targets >= 0
    precisions, areas, decided, balanced = [], [], [], []
    for column, name in enumerate(classes):
        seen = known[:, column]
        truth, score, flags = targets[seen, column], scores[seen, column], predicted[seen, column]
        row = result["per_class"][name]
        assert row["support"] == truth.sum() and row.get("known", len(targets)) == seen.sum()
        if truth.any():
            precisions.append(sklearn_metrics.average_precision_score(truth, score))
            decided.append(by_scikit_learn(truth, flags))
            assert [row[part] for part in ("ap", *PARTS)] == pytest.approx([precisions[-1], *decided[-1]])
        if 0 < truth.sum() < len(truth):
            areas.append(sklearn_metrics.roc_auc_score(truth, score))
            balanced.append(sklearn_metrics.balanced_accuracy_score(truth, flags))
            assert row["auc"] == pytest.approx(areas[-1], abs=1e-12)
    for name, values in (("map", precisions), ("auc_macro", areas), ("auc_thresholded", balanced)):
        assert result[name] == (pytest.approx(np.mean(values)) if values else None)
    assert [result[f"{part}_macro"] for part in PARTS] == mean(decided)
    truth = targets[known]
    if truth.any():
        pooled = by_scikit_learn(truth, predicted[known])
        assert [result[f"{part}_micro"] for part in PARTS] == pytest.approx(pooled)
        assert [result[name] for name in ("op", "or", "of1")] == pytest.approx(pooled)
        cp, cr, cf1 = (result[name] for name in ("cp", "cr", "cf1"))
        assert [cp, cr] == mean(decided)[:2]
        assert cf1 == pytest.approx(2 * cp * cr / (cp + cr) if cp + cr else 0)
    if 0 < truth.sum() < len(truth):
        assert result["auc_micro"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores[known]))
    rows = np.flatnonzero(known.any(axis=1))
    images = [by_scikit_learn(targets[row, known[row]], predicted[row, known[row]]) for row in rows]
    assert [result[f"{part}_samples"] for part in PARTS] == mean(images)


@pytest.mark.filterwarnings("error")
def test_a_class_without_positives_is_named_and_enters_no_mean(simulate: Simulate) -> None:
    scores, targets = simulate(4, 50, 5)
    targets[:, 1], targets[:, 3], targets[:, 4] = 0, 1, -1
    result = evaluate_scores(scores, targets, list("abcde"))
    rest = evaluate_scores(scores[:, [0, 2, 3]], targets[:, [0, 2, 3]], ["a", "c", "d"])
    assert result["undefined"] == {"positives": ["b", "e"], "auc": ["b", "d", "e"]}
    nothing = dict.fromkeys(("ap", "auc", *PARTS))
    assert result["per_class"]["e"] == {**nothing, "support": 0, "known": 0}
    for name in ("map", "auc_macro", "auc_thresholded", "precision_macro", "cf1"):
        assert result[name] == rest[name]
    assert result["op"] < rest["op"]  # false alarms of b still count there
    everything = evaluate_scores(scores, np.full_like(targets, -1), list("abcde"))
    assert {everything[name] for name in METRICS} == {None}


def test_a_score_equal_to_the_threshold_is_not_predicted() -> None:
    result = evaluate_scores(np.array([[0.5], [0.6]], dtype=np.float32), np.array([[1], [1]]), ["a"])
    assert result["or"] == 0.5
    between = evaluate_scores(np.array([[0.1]], dtype=np.float32), np.array([[1]]), ["a"], np.array([0.1]))
    assert between["or"] == 1  # float32(0.1) is above 0.1


@pytest.mark.parametrize("unknown", [0, 0.3])
def test_weights_are_repetitions_of_images(unknown: float, simulate: Simulate, names: Names) -> None:
    scores, targets = simulate(8, 40, 5, levels=4, share=0.15, unknown=unknown)
    targets[:, 4] = 0
    weights = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=6).T.astype(np.float32)
    averages, per_class = ScoredImages(scores, targets, names(5)).summarise(weights)
    for resample in range(6):
        rows = np.repeat(np.arange(40), weights[:, resample].astype(int))
        expected = evaluate_scores(scores[rows], targets[rows], names(5))
        for name in METRICS:
            assert averages[name][resample] == pytest.approx(expected[name], abs=1e-9)
        for figure in ("ap", "auc"):
            values = [None if np.isnan(v) else pytest.approx(v) for v in per_class[figure][:, resample]]
            assert values == [row[figure] for row in expected["per_class"].values()]


@pytest.mark.parametrize(
    ("scores", "targets", "classes", "threshold", "message"),
    [
        ([[0.1, 0.2]], [[0, 1]], ["a"], 0.5, r"must both be \(images, classes\)"),
        (np.zeros((0, 1)), np.zeros((0, 1)), ["a"], 0.5, "not empty"),
        ([[0.1, np.nan]], [[0, 1]], ["a", "b"], 0.5, "score of row 0, class 'b' is nan"),
        ([[0.1, 0.3]], [[0, 2]], ["a", "b"], 0.5, "target of row 0, class 'b' is 2: expected 0, 1, or -1"),
        ([[0.1, 0.3]], [[0, 1]], ["a", "b"], np.zeros(3), "one number, or one for each of 2 classes"),
    ],
)
def test_bad_input_is_refused(scores, targets, classes, threshold, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_scores(np.asarray(scores), np.asarray(targets), classes, threshold)
