"""Thresholds tuned for F1 on the val part: one common threshold, and one per class shrunk towards it.

The best threshold of a class with few positives is mostly noise, and can be worse on new images than 0.5. Each
threshold is therefore shrunk towards the common one, the more the fewer positives the class has.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlic.errors import InputError
from mlic.evaluation.metrics import check_scores

CALIBRATED, COMMON = "calibrated", "common"

SHRINKAGE = 5.0


class Thresholds(NamedTuple):
    """Tuned thresholds; a label is predicted if its score is above the threshold.

    Attributes:
        common: one threshold for all classes, best for micro F1.
        per_class: float64 (C,), the best threshold of each class for its F1, shrunk towards `common`; `common` for a
            class without positives.
    """

    common: float
    per_class: np.ndarray


def fit_thresholds(scores: np.ndarray, targets: np.ndarray, *, shrinkage: float = SHRINKAGE) -> Thresholds:
    """Tune thresholds deterministically, independently of the order of the images.

    A class with n positives gets `common + n / (n + shrinkage) * (own - common)`. This is the posterior mean of its
    best threshold if the best thresholds of classes are distributed around the common one with variance v and are each
    measured with variance shrinkage * v / n (empirical Bayes: Efron and Morris, J. Am. Stat. Assoc. 70, 1975, 311-319).
    The default was best for macro and micro F1 together on new images, in simulations of 56 classes (2 to 50 %
    positives) with 86 to 2,000 val images; values from 2 to 10 differ little.

    Args:
        scores: probabilities (N, C) of the val part.
        targets: targets (N, C) of 1, 0 and -1 (unknown); unknown labels are ignored.
        shrinkage: number of positives at which the threshold of a class itself has half the weight; 0 for no shrinkage.

    Raises:
        InputError: see `check_scores`.
    """
    columns = [str(index) for index in range(np.shape(scores)[-1])]
    scores, targets, known = check_scores(scores, targets, columns)
    used = np.broadcast_to(True, scores.shape) if known is None else known
    common = best_threshold(scores[used], targets[used])
    common = 0.5 if common is None else common
    own = [
        best_threshold(column[rows], wanted[rows])
        for column, wanted, rows in zip(scores.T, targets.T, used.T, strict=True)
    ]
    best = np.array([common if value is None else value for value in own])
    positives = targets.sum(axis=0)
    trust = positives / np.maximum(positives + shrinkage, 1)
    return Thresholds(common, common + trust * (best - common))


def best_threshold(scores: np.ndarray, targets: np.ndarray) -> float | None:
    """Return the threshold with the best F1 on scores (N,) and bool targets (N,); None without positives.

    F1 changes only where the threshold passes a score, so that the best F1 holds on an interval between two scores. The
    middle of the interval is returned; of several intervals with the same F1, the widest, and of these the highest.
    """
    total = np.count_nonzero(targets)
    if total == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # ends of the runs of equal scores
    hits = np.cumsum(targets[order])[last]
    f1 = 2 * hits / (last + 1 + total)
    upper = ranked[last]
    floor = 0.0 if upper[-1] > 0 else np.nextafter(upper[-1], -np.inf)
    lower = np.append(upper[1:], floor)
    best = np.flatnonzero(f1 == f1.max())
    chosen = best[np.argmax((upper - lower)[best])]
    middle = (upper[chosen] + lower[chosen]) / 2
    # there is no number between two adjacent floats; the lower one itself still predicts all scores above it
    return float(middle if middle < upper[chosen] else lower[chosen])


def resolve_thresholds(
    setting: str | float | Mapping[str, float], classes: Sequence[str], own: Mapping[str, Any] | None
) -> np.ndarray:
    """Return the thresholds of the classes, float64 (C,), that the setting `thresholds` asks for.

    Args:
        setting: `calibrated` (the run's own for each class), `common` (the run's own for all classes), one number from
            0 to 1, or a number for some classes by name (the others get their calibrated one).
        classes: C names.
        own: content of the thresholds.json of the run; None if it has none.

    Raises:
        InputError: the setting is not one of these or names unknown classes, or the run has no thresholds of its own.
    """
    if isinstance(setting, Mapping) or setting in (CALIBRATED, COMMON):
        if own is None:
            raise InputError(
                "the checkpoint has no calibrated thresholds. They are stored in the selected checkpoint (best.ckpt) "
                "of a finished run. Use it, or thresholds=0.5."
            )
        given = {name: own["common"] if setting == COMMON else own["per_class"][name] for name in classes}
        if isinstance(setting, Mapping):
            given |= {name: _number(value) for name, value in setting.items()}
    else:
        given = dict.fromkeys(classes, _number(setting))
    if unknown := sorted(given.keys() - set(classes)):
        raise InputError(
            f"thresholds: the run has no class '{unknown[0]}'. It has {', '.join(classes)[:300]}."
        )
    return np.array([given[name] for name in classes], dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            "thresholds: must be calibrated, common, a number from 0 to 1, numbers of classes such as {person: 0.9}, "
            f"or a .json file, got '{value}'."
        )
    return float(value)
