"""Reliability, its error, and the temperature, against figures by hand and a known truth."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from mlic.errors import InputError
from mlic.evaluation.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_table,
)


def test_table_and_error_by_hand() -> None:
    scores = np.array([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
    targets = np.array([0, 1, 0, 1, 1, 1])
    table = reliability_table(scores, targets, bins=4)
    assert table["count"].tolist() == [2, 1, 1, 2]  # an edge belongs to the bin above it, 1 to the last
    assert table["mean_score"].tolist() == pytest.approx([0.05, 0.3, 0.5, 0.95])
    assert table["observed_frequency"].tolist() == [0.5, 0, 1, 1]
    assert table[["low", "high"]].iloc[1].tolist() == [0.25, 0.5]
    expected = (2 * 0.45 + 0.3 + 0.5 + 2 * 0.05) / 6
    assert expected_calibration_error(scores, targets, bins=4) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_done(factor: float) -> None:
    random = np.random.default_rng(2)
    logits = random.normal(-1, 1.5, size=(3000, 4))
    targets = (random.random(logits.shape) < expit(logits)).astype(np.uint8)
    scores = expit(logits * factor).astype(np.float32)
    temperature = fit_temperature(scores, targets)
    assert temperature == pytest.approx(factor, rel=0.08)
    calibrated = apply_temperature(scores, temperature)
    assert calibrated.dtype == np.float32
    assert expected_calibration_error(calibrated, targets) < 0.02
    best, *others = (
        log_loss(targets.ravel(), apply_temperature(scores.astype(float), change * temperature).ravel())
        for change in (1, 0.97, 1.03)
    )
    assert best < min(others)


def test_logits_are_refused() -> None:
    logits, targets = np.array([[-2.0, 3.0]]), np.array([[0, 1]])
    for function in (reliability_table, expected_calibration_error, fit_temperature):
        with pytest.raises(InputError, match=r"requires probabilities in \[0, 1\]"):
            function(logits, targets)
