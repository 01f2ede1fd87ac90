"""Intervals and paired differences: seeded, centred, refused for other images; Holm's rule by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlic.errors import InputError
from mlic.evaluation.bootstrap import (
    MEAN_OF_FOLDS,
    Bootstrap,
    holm,
    paired_differences,
    resample_weights,
    why_not_paired,
)
from mlic.evaluation.metrics import METRICS, evaluate_scores
from mlic.evaluation.predictions import Predictions

Simulate = Callable[..., tuple[np.ndarray, np.ndarray]]


def predict(scores: np.ndarray, targets: np.ndarray) -> Predictions:
    file_names = np.array([f"{index:03d}.jpg" for index in range(len(scores))])
    return Predictions(file_names, scores, targets, tuple("abcdefgh"[: scores.shape[1]]))


def test_resampled_metrics_are_those_of_the_repeated_images(simulate: Simulate) -> None:
    predictions = replace(predict(*simulate(0, 60, 3, levels=9)), folds=np.arange(60) % 3)
    bootstrap = Bootstrap(predictions, 0.4, names=[*METRICS, MEAN_OF_FOLDS], resamples=70, seed=1)
    weights = np.hstack(list(resample_weights(60, 70, seed=1)))
    assert weights.sum(axis=0).tolist() == [60] * 70
    assert np.array_equal(weights[:, :40], np.hstack(list(resample_weights(60, 40, seed=1))))
    assert not np.array_equal(weights, np.hstack(list(resample_weights(60, 70, seed=2))))

    def of_rows(rows: np.ndarray) -> dict[str, Any]:
        return evaluate_scores(predictions.scores[rows], predictions.targets[rows], predictions.classes, 0.4)

    for resample in (0, 69):
        rows = np.repeat(np.arange(60), weights[:, resample].astype(int))
        assert {name: bootstrap.resampled[name][resample] for name in METRICS} == pytest.approx(
            {name: of_rows(rows)[name] for name in METRICS}
        )
        maps = [of_rows(rows[rows % 3 == fold])["map"] for fold in range(3)]
        assert bootstrap.resampled[MEAN_OF_FOLDS][resample] == pytest.approx(np.mean(maps))


def test_interval_is_centred_though_repeated_images_raise_average_precision(simulate: Simulate) -> None:
    bootstrap = Bootstrap(predict(*simulate(2, 100, 6, share=0.05)), names=["map"], resamples=300)
    interval = bootstrap.interval("map")
    assert interval is not None
    low, high = np.quantile(bootstrap.resampled["map"], [0.025, 0.975])
    shift = bootstrap.resampled["map"].mean() - interval.estimate
    assert shift > 0.01
    assert (interval.low, interval.high) == pytest.approx((low - shift, high - shift))


def test_intervals_hold_the_true_value_about_as_often_as_they_say(simulate: Simulate) -> None:
    true = evaluate_scores(*simulate(99, 50_000, 2), ["a", "b"])
    held = {"or": 0, "auc_macro": 0}
    for seed in range(50):
        bootstrap = Bootstrap(predict(*simulate(seed, 120, 2)), names=list(held), resamples=100, seed=seed)
        for name in held:
            interval = bootstrap.interval(name, level=0.9)
            assert interval is not None
            held[name] += interval.low <= true[name] <= interval.high
    assert all(40 <= count <= 49 for count in held.values()), held


def test_undefined_metric_has_no_interval(simulate: Simulate) -> None:
    scores, targets = simulate(0, 20, 2)
    bootstrap = Bootstrap(predict(scores, 0 * targets), names=["map", "f1_samples"], resamples=10)
    assert bootstrap.interval("map") is None and bootstrap.class_interval(0) is None
    assert bootstrap.interval("f1_samples") is not None and bootstrap.interval(MEAN_OF_FOLDS) is None
    difference = paired_differences({"x": bootstrap, "y": bootstrap}, "map")[0]
    assert np.isnan([difference.estimate, difference.low, difference.p_value, difference.p_holm]).all()


def test_a_clear_difference_is_found_and_pairing_narrows_it(simulate: Simulate) -> None:
    scores, targets = simulate(4, 300, 4)
    runs = {}
    for name, amount in (("best", 0.0), ("near", 0.05), ("worst", 3.0)):
        noise = np.random.default_rng(7).normal(scale=amount, size=scores.shape)
        noisy = 1 / (1 + np.exp(-(np.log(scores / (1 - scores)) + noise)))
        runs[name] = Bootstrap(predict(noisy.astype(np.float32), targets), resamples=199)
    pairs = {(row.first, row.second): row for row in paired_differences(runs, "auc_macro")}
    assert list(pairs) == [("best", "near"), ("best", "worst"), ("near", "worst")]
    clear = pairs["best", "worst"]
    assert clear.estimate == runs["best"].estimates["auc_macro"] - runs["worst"].estimates["auc_macro"]
    assert clear.low > 0 and (clear.p_value, clear.p_holm) == (1 / 200, 3 / 200)
    alone, paired = runs["best"].interval("auc_macro"), pairs["best", "near"]
    assert alone is not None
    assert paired.high - paired.low < (alone.high - alone.low) / 5


def test_other_images_or_resamples_are_refused_a_paired_figure(simulate: Simulate) -> None:
    predictions = replace(predict(*simulate(5, 10, 2)), folds=np.arange(10) % 2)
    first = Bootstrap(predictions, resamples=5)
    other_folds = replace(predictions, folds=np.arange(10) // 5)
    for other, message in (
        (predictions.select([1, 0, *range(2, 10)]), "different test images or order"),
        (replace(predictions, classes=("a", "z")), "different classes or order: b, z in only one of them"),
        (replace(predictions, targets=1 - predictions.targets), "labels of the same images: 20 differ"),
        (other_folds, "different folds: 4 of 10 images"),
        (replace(predictions, folds=None), "different folds: 5 of 10 images"),
    ):
        with pytest.raises(InputError, match=f"no paired difference between 'x' and 'y': .*{message}"):
            paired_differences({"x": first, "y": Bootstrap(other, resamples=5)}, "of1")
    for other in (Bootstrap(predictions, resamples=6), Bootstrap(predictions, resamples=5, seed=1)):
        with pytest.raises(InputError, match="different resamples: use the same seed and number"):
            paired_differences({"x": first, "y": other}, "map")
    assert why_not_paired(predictions, predictions) is None
    with pytest.raises(KeyError):
        Bootstrap(predictions, names=["mAP"])


def test_holm_by_hand() -> None:
    # .005 x 4, .01 x 3, .03 x 2, then .04 is raised
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, np.nan, 0.03]).tolist() == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
