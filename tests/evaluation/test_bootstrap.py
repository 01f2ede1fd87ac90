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


def noisy(scores: np.ndarray, amount: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=amount, size=scores.shape)
    return (1 / (1 + np.exp(-(np.log(scores / (1 - scores)) + noise)))).astype(np.float32)


def test_resampled_metrics_are_those_of_the_repeated_images(simulate: Simulate) -> None:
    predictions = predict(*simulate(0, 50, 3, levels=9))
    bootstrap = Bootstrap(predictions, 0.4, resamples=70, seed=1)
    weights = np.hstack(list(resample_weights(50, 70, seed=1)))
    assert weights.sum(axis=0).tolist() == [50] * 70
    assert np.array_equal(weights[:, :40], np.hstack(list(resample_weights(50, 40, seed=1))))
    assert not np.array_equal(weights, np.hstack(list(resample_weights(50, 70, seed=2))))
    for resample in (0, 69):
        rows = np.repeat(np.arange(50), weights[:, resample].astype(int))
        part = predictions.select(rows)
        expected = evaluate_scores(part.scores, part.targets, part.classes, 0.4)
        assert {name: bootstrap.resampled[name][resample] for name in METRICS} == pytest.approx(
            {name: expected[name] for name in METRICS}
        )


def test_the_mean_of_folds_ranks_the_repeated_images_within_each_fold(simulate: Simulate) -> None:
    folds = np.arange(60) % 3
    predictions = replace(predict(*simulate(0, 60, 3, levels=9)), folds=folds)
    bootstrap = Bootstrap(predictions, names=["map", MEAN_OF_FOLDS], resamples=20, seed=1)
    weights = np.hstack([np.ones((60, 1)), *resample_weights(60, 20, seed=1)])
    found = [bootstrap.estimates[MEAN_OF_FOLDS], *bootstrap.resampled[MEAN_OF_FOLDS]]
    for column in (0, 1, 20):
        parts = [
            predictions.select(np.repeat(np.arange(60), weights[:, column].astype(int) * (folds == fold)))
            for fold in range(3)
        ]
        maps = [evaluate_scores(part.scores, part.targets, part.classes)["map"] for part in parts]
        assert found[column] == pytest.approx(np.mean(maps))
    whole = replace(predictions, folds=None)
    assert Bootstrap(whole, names=["map", MEAN_OF_FOLDS], resamples=2).interval(MEAN_OF_FOLDS) is None
    assert why_not_paired(predictions, whole) == "only one of them is a cross-validation"
    moved = replace(predictions, folds=np.sort(folds))
    assert (
        why_not_paired(predictions, moved) == "different folds: 40 of 60 images were tested in another fold"
    )


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
    assert bootstrap.interval("map") is None
    assert bootstrap.interval("f1_samples") is not None
    difference = paired_differences({"x": bootstrap, "y": bootstrap}, "map")[0]
    assert np.isnan([difference.estimate, difference.low, difference.p_value, difference.p_holm]).all()


def test_a_clear_difference_is_found_and_pairing_narrows_it(simulate: Simulate) -> None:
    scores, targets = simulate(4, 300, 4)
    best, near, worst = (predict(noisy(scores, amount, 7), targets) for amount in (0.0, 0.05, 3.0))
    runs = {
        name: Bootstrap(run, resamples=199)
        for name, run in (("best", best), ("near", near), ("worst", worst))
    }
    pairs = {(row.first, row.second): row for row in paired_differences(runs, "auc_macro")}
    assert list(pairs) == [("best", "near"), ("best", "worst"), ("near", "worst")]
    clear = pairs["best", "worst"]
    assert clear.estimate == runs["best"].estimates["auc_macro"] - runs["worst"].estimates["auc_macro"]
    assert clear.low > 0
    assert clear.p_value == 1 / 200
    assert clear.p_holm == 3 / 200
    alone = runs["best"].interval("auc_macro")
    paired = pairs["best", "near"]
    assert alone is not None
    assert paired.high - paired.low < (alone.high - alone.low) / 5


def change(predictions: Predictions, **values: Any) -> Predictions:
    fields = {name: getattr(predictions, name) for name in ("file_names", "scores", "targets", "classes")}
    return Predictions(**{**fields, **values})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda p: p.select([1, 0, *range(2, 10)]),
            "images or order: 2 rows differ, first '000.jpg' and '001.jpg'",
        ),
        (lambda p: change(p, classes=("a", "z")), "different classes: b, z in only one of them"),
        (
            lambda p: change(p, targets=1 - p.targets),
            "different labels of the same images: 20 differ, .* '000.jpg', class 'a'",
        ),
    ],
)
def test_other_images_are_refused_a_paired_figure(simulate: Simulate, build: Callable, message: str) -> None:
    predictions = predict(*simulate(5, 10, 2))
    runs = {"x": Bootstrap(predictions, resamples=5), "y": Bootstrap(build(predictions), resamples=5)}
    with pytest.raises(InputError, match=f"no paired difference between 'x' and 'y': .*{message}"):
        paired_differences(runs, "of1")
    assert why_not_paired(predictions, predictions) is None


def test_other_resamples_and_unknown_names_are_refused(simulate: Simulate) -> None:
    predictions = predict(*simulate(5, 10, 2))
    first = Bootstrap(predictions, resamples=5)
    for other in (Bootstrap(predictions, resamples=6), Bootstrap(predictions, resamples=5, seed=1)):
        with pytest.raises(InputError, match="different resamples: use the same seed and number"):
            paired_differences({"x": first, "y": other}, "map")
    with pytest.raises(InputError, match=r"unknown metrics \['mAP'\].*metrics are map, "):
        Bootstrap(predictions, names=["mAP"])


def test_holm_by_hand() -> None:
    # .005 x 4, .01 x 3, .03 x 2, then .04 is raised
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, np.nan, 0.03]).tolist() == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
