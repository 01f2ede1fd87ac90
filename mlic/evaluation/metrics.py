"""Definitions of all metrics, used during training and for saved predictions.

Macro means are taken over the classes with positives in the split (for areas, with both outcomes); the other classes
are listed. Unknown labels take no part in any metric: the figures of a class are those of its known images, micro
averages are taken over the known labels, and the figures of an image over its known labels.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.table import UNKNOWN
from mlic.errors import InputError
from mlic.evaluation.decisions import Decisions, mean_of_defined
from mlic.evaluation.ranking import Ranking

METRICS = (
    "map", "auc_micro", "auc_macro", "auc_thresholded",
    "precision_micro", "recall_micro", "f1_micro",
    "precision_macro", "recall_macro", "f1_macro",
    "precision_samples", "recall_samples", "f1_samples",
    "cp", "cr", "cf1", "op", "or", "of1",
)  # fmt: skip
SHOWN_METRICS = (
    "loss", "map", "auc_micro", "auc_macro", "precision_micro", "recall_micro", "f1_micro",
    "precision_macro", "recall_macro", "cf1", "of1",
)  # fmt: skip
CLASS_METRICS = ("ap", "auc", "precision", "recall", "f1")


def evaluate_scores(
    scores: np.ndarray, targets: np.ndarray, classes: Sequence[str], threshold: float | np.ndarray = 0.5
) -> dict[str, Any]:
    """Compute all metrics of one split, in the layout of metrics.json.

    Args:
        scores: float (N, C), such as the sigmoid of logits; higher means more likely.
        targets: targets (N, C) of 1, 0 and -1 (unknown).
        classes: C different names.
        threshold: labels with a score above it are predicted; one number, one per class (C,), or one per label (N, C).

    Returns:
        The metrics named in METRICS (float, None if undefined for all classes); `per_class` with ap, auc, precision,
        recall, f1 (float or None) and support (int) of each class, and known (int, the number of images whose label is
        known) if any label is unknown; and `undefined`, which lists under `positives` the classes without positives and
        under `auc` those with only one outcome.

    Raises:
        InputError: the shapes do not match, a score is not finite, or a target is not 1, 0 or -1.
    """
    scored = ScoredImages(scores, targets, classes, threshold)
    averages, per_class = scored.summarise()
    table: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(map(str, classes)):
        figures = {figure: _plain(per_class[figure][column]) for figure in CLASS_METRICS}
        table[name] = {**figures, "support": int(per_class["support"][column, 0])}
        if scored.known is not None:
            table[name]["known"] = int(scored.known[:, column].sum())
    return {
        **{name: _plain(averages[name]) for name in METRICS},
        "per_class": table,
        "undefined": {
            "positives": [name for name, row in table.items() if row["ap"] is None],
            "auc": [name for name, row in table.items() if row["auc"] is None],
        },
    }


def metrics_table(results: dict[str, dict[str, Any]]) -> str:
    """Return the metrics of a run as text: one column a part, at threshold 0.5 or the calibrated ones."""
    frame = pd.DataFrame(results).reindex(SHOWN_METRICS).astype(float)
    title = "metrics of the selected weights, at threshold 0.5 (calibrated: at the tuned thresholds of each class)"
    return f"{title}\n{frame.to_string(float_format='%.4f', na_rep='-')}"


class ScoredImages:
    """Checked scores and targets, which are sorted once and then summarised for any weights of the images.

    Attributes:
        scores: float (N, C).
        targets: bool (N, C), True where the image has the class.
        known: bool (N, C), True where the label is known; None if all are.
    """

    def __init__(
        self,
        scores: np.ndarray,
        targets: np.ndarray,
        classes: Sequence[str],
        threshold: float | np.ndarray = 0.5,
    ) -> None:
        """Check and sort the arguments of `evaluate_scores`."""
        self.scores, self.targets, self.known = check_scores(scores, targets, classes)
        # float64, because a threshold between two adjacent float32 scores must not be rounded to one of them
        limits = np.asarray(threshold, dtype=np.float64)
        if limits.shape not in ((), (len(classes),), self.scores.shape) or np.isnan(limits).any():
            raise InputError(
                f"threshold: expected one number, or one for each of {len(classes)} classes, got {threshold}."
            )
        self.decisions = Decisions(self.scores > limits, self.targets, self.known)

    @cached_property
    def _class_rankings(self) -> Ranking:
        return self._rank(len(self.targets.T))

    @cached_property
    def _micro_ranking(self) -> Ranking:
        return self._rank(1)

    def _rank(self, rankings: int) -> Ranking:
        """Rank the labels of each class, or of all classes pooled in one ranking."""

        def reshape(values: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(values.T).reshape(rankings, -1)

        known = None if self.known is None else reshape(self.known)
        return Ranking(reshape(self.scores), reshape(self.targets), len(self.scores), known)

    def summarise(
        self, weights: np.ndarray | None = None, names: Sequence[str] = METRICS
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return averages float64 (R,) by name and figures of the classes (C, R) by name; NaN if undefined.

        Args:
            weights: float32 (N, R), the count of each image, one column per resample; None counts each once (R = 1).
            names: metrics to compute, a subset of METRICS; expensive ones are skipped if not needed.
        """
        averages, per_class = self.decisions.summarise(weights)
        if {"map", "auc_macro"} & set(names):
            precision, area = self._class_rankings.summarise(weights)
            per_class |= {"ap": precision, "auc": area}
            averages |= {"map": mean_of_defined(precision), "auc_macro": mean_of_defined(area)}
        if "auc_micro" in names:
            averages["auc_micro"] = self._micro_ranking.summarise(weights)[1][0]
        return {name: averages[name] for name in names}, per_class


def check_scores(
    scores: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Check scores and targets.

    Returns:
        Scores (N, C) as float32 or float64; bool (N, C), True for targets of 1; and bool (N, C), True for known
        targets, or None if all are known.

    Raises:
        InputError: see `evaluate_scores`.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if (
        scores.ndim != 2
        or scores.shape != targets.shape
        or scores.shape[1] != len(classes)
        or not scores.size
    ):
        raise InputError(
            f"scores {scores.shape} and targets {targets.shape} must both be (images, classes) and not empty, "
            f"with one column for each of the {len(classes)} classes."
        )
    if len(set(classes)) < len(classes):
        raise InputError("a class is listed twice: each column of the scores needs its own name.")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float64)
    positive = targets == 1
    known = positive | (targets == 0)
    _refuse_values("score", scores, np.isfinite(scores), classes, "expected a finite number")
    valid = known | (targets == UNKNOWN)
    _refuse_values("target", targets, valid, classes, f"expected 0, 1, or {UNKNOWN} if it is unknown")
    return scores, positive, None if known.all() else known


def _refuse_values(
    name: str, values: np.ndarray, valid: np.ndarray, classes: Sequence[str], expected: str
) -> None:
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        raise InputError(
            f"the {name} of row {row}, class '{classes[column]}' is {values[row, column]}: {expected}."
        )


def known_labels(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and targets (both of any one shape) of the known labels, in one dimension."""
    known = targets != UNKNOWN
    return scores[known], targets[known]


def _plain(values: np.ndarray) -> float | None:
    """Convert a single value to a Python float, with None for NaN, which JSON does not have."""
    value = values.item()
    return None if math.isnan(value) else value
