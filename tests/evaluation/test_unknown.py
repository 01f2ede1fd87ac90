"""Unknown labels (targets of -1) take no part in any figure; see also test_metrics.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlic.evaluation.bootstrap import Bootstrap
from mlic.evaluation.calibration import expected_calibration_error, fit_class_calibration, fit_temperature
from mlic.evaluation.errors import co_occurrence, confusions, gallery_rows, image_losses, single_errors
from mlic.evaluation.guarantees import fit_guarantees
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.report.curves import find_curve

Table = tuple[np.ndarray, np.ndarray]
IMAGES, CLASSES = 60, tuple("abcde")


@pytest.fixture(params=range(3))
def table(request: pytest.FixtureRequest, simulate: Callable[..., Table]) -> Table:
    """Scores (60, 5), with ties for odd seeds, and targets: 30 % unknown, all of class e and all of image 0."""
    scores, targets = simulate(request.param, IMAGES, len(CLASSES), levels=request.param % 2 * 4, unknown=0.3)
    targets[:, 4] = -1
    return scores, targets


def predict(scores: np.ndarray, targets: np.ndarray) -> Predictions:
    return Predictions(np.arange(IMAGES).astype(str), scores, targets, CLASSES)


def test_no_score_of_an_unknown_label_changes_anything(table: Table) -> None:
    scores, targets = table
    changed = np.where(targets < 0, np.random.default_rng(9).random(scores.shape), scores).astype(np.float32)

    def figures(scores: np.ndarray) -> list[Any]:
        predictions = predict(scores, targets)
        fitted, bootstrap = fit_thresholds(scores, targets), Bootstrap(predictions, resamples=10)
        curves = [
            find_curve(kind, predictions, *of)
            for kind in ("pr", "roc")
            for of in (("micro",), ("class", "a"))
        ]
        return [
            evaluate_scores(scores, targets, CLASSES),
            [fitted.common, fitted.per_class.tolist()],
            {name: values.tolist() for name, values in bootstrap.resampled.items()},
            [expected_calibration_error(scores, targets), fit_temperature(scores, targets)],
            [values[:4].tolist() for values in fit_class_calibration(scores, targets)],
            [image_losses(predictions)[1:].tolist(), gallery_rows(predictions)["confident_errors"].tolist()],
            [single_errors(predictions).to_csv(), confusions(predictions).to_csv()],
            fit_guarantees(predictions, precision=0.5, recall=0.5, per_class=False),
            [[part.tolist() for part in points] for points in curves if points is not None],
        ]

    assert repr(figures(scores)) == repr(figures(changed))


def test_an_image_of_which_nothing_is_known_is_in_no_gallery(table: Table) -> None:
    rows = gallery_rows(predict(*table), count=IMAGES)
    assert 0 not in np.concatenate(list(rows.values()))
    assert len(rows["lowest_loss"]) == len(rows["highest_loss"]) == (table[1] >= 0).any(axis=1).sum()


def test_pairs_are_counted_where_both_labels_are_known(table: Table) -> None:
    _, targets = table
    for pair in co_occurrence(targets, CLASSES).to_dict("records"):
        columns = targets[:, [CLASSES.index(pair[key]) for key in ("first", "second")]]
        both = columns[(columns >= 0).all(axis=1)]
        assert pair["images"] == both.all(axis=1).sum()
        assert pair["lift"] == pytest.approx(both.all(axis=1).mean() / both.mean(axis=0).prod())
