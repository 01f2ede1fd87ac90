"""The metrics agree with scikit-learn and torchmetrics where those are defined, else with figures by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mlic.errors import InputError
from mlic.evaluation.metrics import METRICS, ScoredImages, evaluate_scores

Simulate = Callable[..., tuple[np.ndarray, np.ndarray]]
Names = Callable[[int], list[str]]
GRID: list[dict[str, Any]] = [
    {"images": images, "classes": classes, "levels": levels, "share": share}
    for images, classes, levels, share in (
        (60, 5, 0, 0.4), (60, 5, 3, 0.05), (7, 3, 3, 1.0), (40, 1, 3, 0.4), (1, 4, 0, 0.4)
    )
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_ranking_metrics_equal_scikit_learn(shape: dict, simulate: Simulate, names: Names) -> None:
    scores, targets = simulate(0, **shape)
    result = evaluate_scores(scores, targets, names(shape["classes"]))

    positive, negative = targets.sum(axis=0) > 0, (1 - targets).sum(axis=0) > 0
    ap = {
        c: sklearn_metrics.average_precision_score(targets[:, c], scores[:, c])
        for c in np.flatnonzero(positive).tolist()
    }
    auc = {
        c: sklearn_metrics.roc_auc_score(targets[:, c], scores[:, c])
        for c in np.flatnonzero(positive & negative).tolist()
    }
    for column, row in enumerate(result["per_class"].values()):
        assert row["ap"] == (pytest.approx(ap[column], abs=1e-12) if column in ap else None)
        assert row["auc"] == (pytest.approx(auc[column], abs=1e-12) if column in auc else None)
        assert row["support"] == targets[:, column].sum()
    assert result["map"] == (pytest.approx(np.mean(list(ap.values()))) if ap else None)
    assert result["auc_macro"] == (pytest.approx(np.mean(list(auc.values()))) if auc else None)
    both = 0 < targets.sum() < targets.size
    micro = sklearn_metrics.roc_auc_score(targets.ravel(), scores.ravel()) if both else None
    assert result["auc_micro"] == (None if micro is None else pytest.approx(micro, abs=1e-12))


@pytest.mark.parametrize("shape", GRID, ids=str)
def test_decision_metrics_equal_scikit_learn(shape: dict, simulate: Simulate, names: Names) -> None:
    scores, targets = simulate(3, **shape)
    limits = np.linspace(0.2, 0.8, shape["classes"])
    result = evaluate_scores(scores, targets, names(shape["classes"]), limits)

    predicted = (scores > limits).astype(int)
    present = np.flatnonzero(targets.sum(axis=0))

    zero: Any = 0  # scikit-learn's stubs know only its default

    def expected(average: str, columns: np.ndarray) -> list[float]:
        # a column of zeros changes nothing, and scikit-learn would take a single column for a binary task
        labels = list(range(len(columns)))
        pair = [
            np.hstack([values[:, columns], np.zeros((len(values), 1), dtype=int)])
            for values in (targets, predicted)
        ]
        if average == "samples":
            labels = None
        figures = sklearn_metrics.precision_recall_fscore_support(
            *pair, labels=labels, average=average, zero_division=zero
        )
        return list(figures[:3])

    everything = np.arange(shape["classes"])
    parts = ("precision", "recall", "f1")
    assert [result[f"{part}_samples"] for part in parts] == pytest.approx(expected("samples", everything))
    if len(present) == 0:
        undefined = ("cp", "cr", "cf1", "op", "or", "of1", "f1_macro", "f1_micro")
        assert {result[name] for name in undefined} == {None}
        return
    assert [result[f"{part}_micro"] for part in parts] == pytest.approx(expected("micro", everything))
    assert [result[f"{part}_macro"] for part in parts] == pytest.approx(expected("macro", present))
    # the names of the literature
    assert [result[name] for name in ("op", "or", "of1")] == [result[f"{part}_micro"] for part in parts]
    cp, cr = result["cp"], result["cr"]
    assert [cp, cr] == [result["precision_macro"], result["recall_macro"]]
    assert result["cf1"] == pytest.approx(2 * cp * cr / (cp + cr) if cp + cr else 0)
    both = [c for c in present if targets[:, c].min() == 0]
    balanced = [sklearn_metrics.balanced_accuracy_score(targets[:, c], predicted[:, c]) for c in both]
    assert result["auc_thresholded"] == (pytest.approx(np.mean(balanced)) if both else None)


def test_class_without_positives_is_named_and_enters_no_mean(simulate: Simulate, names: Names) -> None:
    scores, targets = simulate(4, 50, 4)
    targets[:, 1], targets[:, 3] = 0, 1
    result = evaluate_scores(scores, targets, ["a", "b", "c", "d"])
    rest = evaluate_scores(scores[:, [0, 2, 3]], targets[:, [0, 2, 3]], ["a", "c", "d"])
    assert result["undefined"] == {"positives": ["b"], "auc": ["b", "d"]}
    nothing = dict.fromkeys(("ap", "auc", "precision", "recall", "f1"))
    assert result["per_class"]["b"] == {**nothing, "support": 0}
    for name in ("map", "auc_macro", "auc_thresholded", "precision_macro", "cf1"):
        assert result[name] == rest[name]
    assert result["auc_micro"] != rest["auc_micro"]  # false alarms of b still count there
    assert result["op"] < rest["op"]


def test_a_score_equal_to_the_threshold_is_not_predicted() -> None:
    result = evaluate_scores(np.array([[0.5], [0.6]], dtype=np.float32), np.array([[1], [1]]), ["a"])
    assert result["or"] == 0.5
    between = evaluate_scores(np.array([[0.1]], dtype=np.float32), np.array([[1]]), ["a"], np.array([0.1]))
    assert between["or"] == 1  # float32(0.1) is above 0.1


def test_weights_are_repetitions_of_images(simulate: Simulate, names: Names) -> None:
    scores, targets = simulate(8, 40, 5, levels=4, share=0.15)
    targets[:, 4] = 0
    weights = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=6).T.astype(np.float32)
    scored = ScoredImages(scores, targets, names(5))
    averages, per_class = scored.summarise(weights)
    for resample in range(6):
        rows = np.repeat(np.arange(40), weights[:, resample].astype(int))
        expected = evaluate_scores(scores[rows], targets[rows], names(5))
        for name in METRICS:
            assert averages[name][resample] == pytest.approx(expected[name], abs=1e-9)
        assert [None if np.isnan(v) else pytest.approx(v) for v in per_class["ap"][:, resample]] == [
            row["ap"] for row in expected["per_class"].values()
        ]


@pytest.mark.parametrize(
    ("scores", "targets", "classes", "threshold", "message"),
    [
        ([[0.1, 0.2]], [[0, 1]], ["a"], 0.5, r"must both be \(images, classes\)"),
        (np.zeros((0, 1)), np.zeros((0, 1)), ["a"], 0.5, "metrics require images"),
        ([[0.1, np.nan]], [[0, 1]], ["a", "b"], 0.5, "score of row 0, class 'b' is nan"),
        ([[0.1, 0.3]], [[0, 2]], ["a", "b"], 0.5, "target of row 0, class 'b' is 2: expected 0, 1, or -1"),
        ([[0.1, 0.3]], [[0, 1]], ["a", "b"], np.zeros(3), "one number, or one for each of 2 classes"),
    ],
)
def test_bad_input_is_refused(scores, targets, classes, threshold, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_scores(np.asarray(scores), np.asarray(targets), classes, threshold)
