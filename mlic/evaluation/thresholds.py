"""Thresholds tuned for F1 on the val part: one for all classes, and one a class that leans on it.

The best threshold of a class with few positives is mostly noise: tuned ones can score worse on new images
than 0.5. So each is pulled to the common one by how little is known of the class.
"""

from dataclasses import dataclass

import numpy as np

from mlic.evaluation.metrics import check_scores

SHRINKAGE = 5.0


@dataclass(frozen=True, eq=False)
class Thresholds:
    """A label is predicted where its score is above the threshold.

    Attributes:
        common: one for all classes, best for micro F1.
        per_class: (C,) float64, the class's own best, shrunk to the common one.
        unshrunk: (C,) float64, the class's own best for its F1; the common one for a class without positives.
    """

    common: float
    per_class: np.ndarray
    unshrunk: np.ndarray


def fit_thresholds(scores: np.ndarray, targets: np.ndarray, *, shrinkage: float = SHRINKAGE) -> Thresholds:
    """Tune thresholds; the same input gives the same thresholds, whatever the order of the images.

    A class with n positives gets `common + n / (n + shrinkage) * (own - common)`. That is the posterior
    mean of a class's best threshold when those scatter about the common one with variance v and are each
    measured with variance shrinkage * v / n (empirical Bayes: Efron and Morris, J. Am. Stat. Assoc. 70,
    1975, 311-319). The default did best for macro and micro F1 together on new images, in simulations of 56
    classes (2 to 50 % positives) with 86 to 2,000 val images; from 2 to 10 little changes.

    Args:
        scores: (N, C) probabilities of the val part.
        targets: (N, C) of 0 and 1.
        shrinkage: number of positives at which a class's own threshold counts half; 0 for no shrinkage.

    Raises:
        InputError: as `check_scores`.
    """
    columns = [str(index) for index in range(np.shape(scores)[-1])]
    scores, targets = check_scores(scores, targets, columns)
    common = best_threshold(scores.ravel(), targets.ravel())
    common = 0.5 if common is None else common
    own = [best_threshold(*column) for column in zip(scores.T, targets.T, strict=True)]
    unshrunk = np.array([common if value is None else value for value in own])
    positives = targets.sum(axis=0)
    trust = positives / np.maximum(positives + shrinkage, 1)
    return Thresholds(common, common + trust * (unshrunk - common), unshrunk)


def best_threshold(scores: np.ndarray, targets: np.ndarray) -> float | None:
    """The threshold with the best F1 on scores (N,) and targets (N,) bool; None without a positive.

    F1 changes only where the threshold passes a score, so the best holds on an interval between two scores:
    its middle is taken; of several intervals with the same F1 the widest, and of equally wide ones the
    highest.
    """
    total = np.count_nonzero(targets)
    if total == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    last = np.append(
        np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1
    )  # of each run of equal scores
    hits = np.cumsum(targets[order])[last]
    f1 = 2 * hits / (last + 1 + total)
    upper = ranked[last]
    floor = 0.0 if upper[-1] > 0 else np.nextafter(upper[-1], -np.inf)
    lower = np.append(upper[1:], floor)
    best = np.flatnonzero(f1 == f1.max())
    chosen = best[np.argmax((upper - lower)[best])]
    middle = (upper[chosen] + lower[chosen]) / 2
    # between two neighbouring numbers there is none: the lower one itself still predicts all that is above it
    return float(middle if middle < upper[chosen] else lower[chosen])
