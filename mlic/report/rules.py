"""Decision rules: the thresholds above which a label is predicted, and the counts at each threshold."""

from typing import Any

import numpy as np

from mlic.evaluation.errors import confusions
from mlic.evaluation.metrics import ScoredImages
from mlic.report.comparison import predictions_of
from mlic.report.reading import ReportedRun

OWN, COMMON, HALF_RULE = "own", "common", "half"
STEPS = np.arange(1, 100) / 100  # thresholds of the slider
CONFUSED = 4  # classes named as confused with a class


def rules_of(run: ReportedRun) -> dict[str, float | np.ndarray]:
    """Return the thresholds of the rules that a run has; the first is that of `mlic.predict`.

    Those of `own` are (C,), or (N, C) for a cross-validation.
    """
    rules: dict[str, float | np.ndarray] = {} if run.thresholds is None else {OWN: run.thresholds}
    if run.common_threshold is not None:
        rules[COMMON] = run.common_threshold
    return {**rules, HALF_RULE: 0.5}


def predict_rule(run: ReportedRun) -> float | np.ndarray:
    """Return the thresholds of `mlic.predict`: one per class, or 0.5 without any."""
    return next(iter(rules_of(run).values()))


def count_outcomes(run: ReportedRun, threshold: float | np.ndarray) -> dict[str, Any]:
    """Count right, wrong and missed labels of each class on test, and name the classes confused with it.

    Returns:
        `tp`, `fp` and `fn`, lists (C,); and `confused`, by class a list of (other class, images), both as text.
    """
    test = predictions_of(run)
    decided = ScoredImages(test.scores, test.targets, test.classes, threshold).decisions
    found = {
        "tp": decided.predicted & decided.targets,
        "fp": decided.predicted & ~decided.targets,
        "fn": decided.targets & ~decided.predicted,
    }
    counts: dict[str, Any] = {name: flags.sum(axis=0).tolist() for name, flags in found.items()}
    table = confusions(test, threshold, top=CONFUSED)
    named = zip(table["class"], table["confused_with"], table["images"].tolist(), strict=True)
    counts["confused"] = {}
    for name, other, images in named:
        counts["confused"].setdefault(name, []).append((other, images))
    return counts


def count_steps(run: ReportedRun) -> dict[str, list[list[int]]]:
    """Count the right (`tp`) and wrong (`fp`) labels of each class at the thresholds STEPS."""
    test = predictions_of(run)
    flags = {"tp": test.positives, "fp": test.known & ~test.positives}
    return {
        name: [
            _count_above(test.scores[mask[:, column], column]).tolist() for column in range(len(test.classes))
        ]
        for name, mask in flags.items()
    }


def _count_above(scores: np.ndarray) -> np.ndarray:
    return len(scores) - np.searchsorted(np.sort(scores.astype(np.float64)), STEPS, side="right")
