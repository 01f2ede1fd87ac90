"""Unknown labels (targets of -1) take no part in any figure: each is that of scikit-learn on the known labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from mlic.evaluation.bootstrap import Bootstrap, why_not_paired
from mlic.evaluation.calibration import class_calibration_errors, expected_calibration_error, fit_temperature
from mlic.evaluation.errors import co_occurrence, confusions, gallery_rows, image_losses, single_errors
from mlic.evaluation.metrics import METRICS, ScoredImages, evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.report.curves import find_curve

Table = tuple[np.ndarray, np.ndarray]
IMAGES, CLASSES = 60, tuple("abcde")
LIMITS = np.array([0.3, 0.4, 0.5, 0.6, 0.7])
SEEDS = range(5)


def hidden(seed: int, simulate: Callable[..., Table]) -> Table:
    """Scores (60, 5), with ties for odd seeds, and targets: 30 % unknown, all of class e and all of image 0."""
    scores, targets = simulate(seed, IMAGES, len(CLASSES), levels=seed % 2 * 4)
    targets = np.where(
        np.random.default_rng(100 + seed).random(targets.shape) < 0.3, -1, targets.astype(np.int8)
    )
    targets[:, 4] = targets[0] = -1
    return scores, targets


@pytest.fixture(params=SEEDS)
def table(request: pytest.FixtureRequest, simulate: Callable[..., Table]) -> Table:
    return hidden(request.param, simulate)


def precision_recall_f1(targets: np.ndarray, predicted: np.ndarray) -> tuple[float, ...]:
    zero: Any = 0  # scikit-learn's stubs know only its default
    return sklearn_metrics.precision_recall_fscore_support(
        targets, predicted, average="binary", zero_division=zero
    )[:3]


@pytest.mark.filterwarnings("error")
def test_each_metric_is_scikit_learns_on_the_known_labels(table: Table) -> None:
    scores, targets = table
    result = evaluate_scores(scores, targets, CLASSES, LIMITS)
    predicted, known = scores > LIMITS, targets >= 0
    rows = []
    for column, name in enumerate(CLASSES[:4]):
        seen = known[:, column]
        truth, score = targets[seen, column], scores[seen, column]
        figures = [
            sklearn_metrics.average_precision_score(truth, score),
            sklearn_metrics.roc_auc_score(truth, score),
            *precision_recall_f1(truth, predicted[seen, column]),
        ]
        balanced = sklearn_metrics.balanced_accuracy_score(truth, predicted[seen, column])
        row = result["per_class"][name]
        assert [row[key] for key in ("ap", "auc", "precision", "recall", "f1")] == pytest.approx(figures)
        assert (row["support"], row["known"]) == (truth.sum(), seen.sum())
        rows.append([*figures, balanced])
    means = np.mean(rows, axis=0)
    names = ("map", "auc_macro", "precision_macro", "recall_macro", "f1_macro", "auc_thresholded")
    assert [result[name] for name in names] == pytest.approx(means)
    assert [result["cp"], result["cr"]] == pytest.approx(means[2:4])
    assert result["cf1"] == pytest.approx(2 * means[2] * means[3] / (means[2] + means[3]))

    pooled = precision_recall_f1(targets[known], predicted[known])
    assert [result[f"{name}_micro"] for name in ("precision", "recall", "f1")] == pytest.approx(pooled)
    assert [result[name] for name in ("op", "or", "of1")] == pytest.approx(pooled)
    assert result["auc_micro"] == pytest.approx(sklearn_metrics.roc_auc_score(targets[known], scores[known]))
    images = [  # without image 0, of which nothing is known
        precision_recall_f1(targets[row, known[row]], predicted[row, known[row]])
        for row in np.flatnonzero(known.any(axis=1))
    ]
    samples = [result[f"{name}_samples"] for name in ("precision", "recall", "f1")]
    assert samples == pytest.approx(np.mean(images, axis=0))


@pytest.mark.filterwarnings("error")
def test_a_class_that_is_unknown_everywhere_is_named_and_enters_no_mean(table: Table) -> None:
    scores, targets = table
    result = evaluate_scores(scores, targets, CLASSES)
    assert result["undefined"] == {"positives": ["e"], "auc": ["e"]}
    nothing = dict.fromkeys(("ap", "auc", "precision", "recall", "f1"))
    assert result["per_class"]["e"] == {**nothing, "support": 0, "known": 0}
    rest = evaluate_scores(scores[:, :4], targets[:, :4], CLASSES[:4])
    assert {name: result[name] for name in METRICS} == {name: rest[name] for name in METRICS}
    everything = evaluate_scores(scores, np.full_like(targets, -1), CLASSES)
    assert {everything[name] for name in METRICS} == {None}


def test_no_score_of_an_unknown_label_changes_anything(table: Table) -> None:
    scores, targets = table
    changed = np.where(targets < 0, np.random.default_rng(9).random(scores.shape), scores).astype(np.float32)

    def figures(scores: np.ndarray) -> list[Any]:
        predictions = Predictions(np.arange(IMAGES).astype(str), scores, targets, CLASSES)
        fitted = fit_thresholds(scores, targets)
        bootstrap = Bootstrap(predictions, resamples=10)
        errors = single_errors(predictions)
        return [
            evaluate_scores(scores, targets, CLASSES),
            *(fitted.common, fitted.per_class.tolist(), fitted.unshrunk.tolist()),
            {name: values.tolist() for name, values in bootstrap.resampled.items()},
            [expected_calibration_error(scores, targets), fit_temperature(scores, targets)],
            class_calibration_errors(scores, targets)[:4].tolist(),
            [image_losses(predictions)[1:].tolist(), gallery_rows(predictions)["confident_errors"].tolist()],
            [errors.to_csv(), confusions(predictions).to_csv()],
            [
                [part.tolist() for part in points]
                for kind in ("pr", "roc")
                for points in (
                    find_curve(kind, predictions, "micro"),
                    find_curve(kind, predictions, "macro"),
                    find_curve(kind, predictions, "class", "a"),
                )
                if points is not None
            ],
        ]

    assert repr(figures(scores)) == repr(figures(changed))


def test_a_resampled_image_keeps_what_is_unknown_of_it(table: Table) -> None:
    scores, targets = table
    weights = np.random.default_rng(1).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=6).T
    averages, per_class = ScoredImages(scores, targets, CLASSES).summarise(weights.astype(np.float32))
    for resample in range(6):
        rows = np.repeat(np.arange(IMAGES), weights[:, resample])
        expected = evaluate_scores(scores[rows], targets[rows], CLASSES)
        assert [averages[name][resample] for name in METRICS] == pytest.approx(
            [expected[name] for name in METRICS], abs=1e-9
        )
        assert per_class["auc"][0, resample] == pytest.approx(expected["per_class"]["a"]["auc"])


def test_runs_of_which_other_labels_are_known_are_not_paired(table: Table) -> None:
    scores, targets = table
    other = targets.copy()
    row, column = np.argwhere(targets == 0)[0]
    other[row, column] = -1
    names = np.arange(IMAGES).astype(str)
    reason = why_not_paired(*(Predictions(names, scores, labels, CLASSES) for labels in (targets, other)))
    assert reason == (
        f"different labels of the same images: 1 differ, first '{row}', class '{CLASSES[column]}'"
    )


def test_an_image_of_which_nothing_is_known_is_in_no_gallery(table: Table) -> None:
    scores, targets = table
    predictions = Predictions(np.arange(IMAGES).astype(str), scores, targets, CLASSES)
    rows = gallery_rows(predictions, count=IMAGES)
    assert 0 not in np.concatenate(list(rows.values()))
    assert len(rows["lowest_loss"]) == len(rows["highest_loss"]) == (targets >= 0).any(axis=1).sum()
    assert np.isnan(class_calibration_errors(scores, targets)[4])


def test_pairs_are_counted_where_both_labels_are_known(table: Table) -> None:
    _, targets = table
    for pair in co_occurrence(targets, CLASSES).to_dict("records"):
        columns = targets[:, [CLASSES.index(pair[key]) for key in ("first", "second")]]
        both = columns[(columns >= 0).all(axis=1)]
        assert pair["images"] == both.all(axis=1).sum()
        assert pair["lift"] == pytest.approx(both.all(axis=1).mean() / both.mean(axis=0).prod())


def test_predictions_keep_unknown_labels_and_read_files_without(table: Table, tmp_path: Path) -> None:
    scores, targets = table
    file = tmp_path / "test.parquet"
    Predictions(np.arange(IMAGES).astype(str), scores, targets, CLASSES).write_parquet(file)
    assert (Predictions.read_parquet(file).targets == targets).all()
    frame = pd.read_parquet(file)
    columns = [f"target:{name}" for name in CLASSES]
    frame[columns] = frame[columns].clip(lower=0).astype(np.uint8)  # as earlier versions wrote them
    frame.to_parquet(file, index=False)
    earlier = Predictions.read_parquet(file)
    assert earlier.known.all() and (earlier.positives == (targets == 1)).all()
