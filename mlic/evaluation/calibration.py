"""Calibration: reliability tables, calibration errors and temperature scaling. Unknown labels are ignored."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from mlic.errors import InputError
from mlic.evaluation.metrics import known_labels

BINS = 15
TEMPERATURES = (0.05, 20.0)
SHRINKAGE = 5.0  # as for thresholds
NEWTON_STEPS, PRECISION = 50, 1e-4
SMALLEST_SLOPE = 0.01  # for scores of deviation 1


def reliability_table(scores: np.ndarray, targets: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Tabulate mean score and observed frequency in bins of equal width.

    Args:
        scores: probabilities of any shape: (N, C) pools all classes, (N,) is one class.
        targets: 1, 0 and -1 (unknown), of the same shape.
        bins: number of bins; each includes its lower edge, the last also 1.

    Returns:
        One row per bin: low, high, mean_score, observed_frequency (both NaN in an empty bin), count.

    Raises:
        InputError: a score is outside [0, 1], or the shapes differ.
    """
    scores, targets = _known_probabilities(scores, targets)
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    edges = np.linspace(0, 1, bins + 1)
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    for name, values in (("mean_score", scores), ("observed_frequency", targets)):
        total = np.bincount(place, weights=values, minlength=bins)
        table[name] = np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)
    table["count"] = count
    return table


def expected_calibration_error(scores: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Compute the mean over all scores of |mean score - observed frequency| of their bin; 0 is best.

    This is the binary form of Naeini, Cooper and Hauskrecht (AAAI 2015) with bins of equal width. Arguments and errors
    are those of `reliability_table`. The result is NaN if no label is known.
    """
    table = reliability_table(scores, targets, bins)
    gap = (table["mean_score"] - table["observed_frequency"]).abs()
    count = table["count"].to_numpy()
    return float(np.nansum(gap.to_numpy() * count) / count.sum()) if count.any() else np.nan


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """Find the temperature T that minimizes the binary cross-entropy of sigmoid(logit / T) over all classes.

    Follows Guo, Pleiss, Sun and Weinberger (ICML 2017), with sigmoids instead of a softmax. The loss is convex in 1 /
    T, which is searched between 1 / 20 and 20.

    Args:
        scores: probabilities (N, C) of the val part.
        targets: targets (N, C) of 1, 0 and -1 (unknown).

    Raises:
        InputError: a score is outside [0, 1], or the shapes differ.
    """
    scores, targets = _known_probabilities(scores, targets)
    logits = to_logits(scores)
    signed = np.where(targets == 1, -logits, logits)

    def loss(inverse: float) -> float:
        return float(np.logaddexp(0, signed * inverse).mean())

    low, high = TEMPERATURES
    found: Any = minimize_scalar(loss, bounds=(1 / high, 1 / low), method="bounded", options={"xatol": 1e-6})
    return 1 / float(found.x)


def apply_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return sigmoid(logit / temperature) of scores, in their shape and dtype; their order does not change."""
    scores = np.asarray(scores)
    return expit(to_logits(scores) / temperature).astype(scores.dtype)


def fit_class_calibration(
    scores: np.ndarray, targets: np.ndarray, *, shrinkage: float = SHRINKAGE
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the probability of each class as sigmoid(slope * score + offset), for scores of any scale.

    This is Platt's logistic calibration. The parameters of a class, for scores of mean 0 and deviation 1 and relative
    to its frequency, are drawn towards those common to all classes by a normal prior, because a class with few
    positives does not determine its own. Slopes are positive, so that the order of scores stays: where features tell
    nothing, leave-one-out scores are lower for positives, because the mean of the others is, and a negative slope would
    turn this into a perfect prediction. Where the known labels or the scores are all equal, the slope is 0.

    Args:
        scores: scores (N, C).
        targets: targets (N, C) of 1, 0 and -1 (unknown).
        shrinkage: weight of the prior, in positives.

    Returns:
        Slopes and offsets, float64 (C,).
    """
    known, positive = targets != -1, targets == 1
    # with one label alone, differences between scores are rounding errors, which a slope would enlarge
    used = known & positive.any(axis=0) & (targets == 0).any(axis=0)
    scores = np.where(used, scores, 0).astype(np.float32)
    count = np.maximum(used.sum(axis=0), 1)
    mean = scores.sum(axis=0, dtype=np.float64) / count
    centred = np.where(used, scores - mean, 0)
    deviation = np.sqrt(np.square(centred).sum(axis=0) / count)
    deviation[deviation == 0] = np.inf
    # float32, because the search takes most of its time to read these arrays
    scaled = (centred / deviation).astype(np.float32)
    label, weight_of = positive.astype(np.float32), known.astype(np.float32)
    base = logit((positive.sum(axis=0) + 0.5) / (known.sum(axis=0) + 1))

    def search(start: np.ndarray, weight: float, *, pooled: bool) -> np.ndarray:
        """Find parameters (2, C) by bounded Newton steps; `pooled` classes share each step."""
        found = start
        for _ in range(NEWTON_STEPS):
            gradient, second = _derivatives(found, base, scaled, label, weight_of)
            if pooled:
                gradient, second = (value.sum(axis=1, keepdims=True) for value in (gradient, second))
            before, found = found, _newton_step(found, gradient, second, start, weight)
            if np.abs(found - before).max() < PRECISION:
                break
        return found

    # the prior matters only where all classes are separated, which would make the common slope infinite
    common = search(np.tile([[1.0], [0.0]], scores.shape[1]), shrinkage, pooled=True)
    own = search(common, shrinkage, pooled=False)
    slope = own[0] / deviation
    return slope, base + own[1] - slope * mean


def _derivatives(
    parameters: np.ndarray, base: np.ndarray, scaled: np.ndarray, label: np.ndarray, weight_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return first (2, C) and second derivatives (3, C) of the loss by slope and offset of each class."""
    probability = expit((base + parameters[1]).astype(np.float32) + parameters[0].astype(np.float32) * scaled)
    error = (probability - label) * weight_of
    curvature = probability * (1 - probability) * weight_of
    slanted = curvature * scaled

    def products(values: np.ndarray) -> np.ndarray:
        return np.einsum("nc,nc->c", values, scaled).astype(np.float64)

    def sums(values: np.ndarray) -> np.ndarray:
        return values.sum(axis=0, dtype=np.float64)

    return np.stack([products(error), sums(error)]), np.stack(
        [products(slanted), sums(slanted), sums(curvature)]
    )


def _newton_step(
    parameters: np.ndarray, gradient: np.ndarray, second: np.ndarray, centre: np.ndarray, weight: float
) -> np.ndarray:
    """Take a step bounded by 1 towards the minimum of loss and prior, and keep the slope positive."""
    gradient = gradient + weight * (parameters - centre)
    slopes, both, offsets = second + np.array([[weight], [0], [weight]]) + 1e-9
    determinant = slopes * offsets - both**2
    step = np.stack([offsets * gradient[0] - both * gradient[1], slopes * gradient[1] - both * gradient[0]])
    moved = parameters - (step / determinant).clip(-1, 1)
    moved[0] = moved[0].clip(SMALLEST_SLOPE)
    return moved


def to_logits(scores: np.ndarray) -> np.ndarray:
    """Return the float64 logits of probabilities; 0 and 1 are replaced by the adjacent float32 numbers."""
    limits = np.finfo(np.float32)
    return logit(np.clip(np.asarray(scores, dtype=np.float64), float(limits.tiny), 1 - float(limits.epsneg)))


def _known_probabilities(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check scores and targets, and return those of the known labels in one dimension, scores as float64."""
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if scores.shape != targets.shape or not scores.size or not ((scores >= 0) & (scores <= 1)).all():
        raise InputError(
            f"calibration requires probabilities in [0, 1] (apply a sigmoid to logits) and targets of the same shape; "
            f"scores are {scores.shape}, targets {targets.shape}."
        )
    return known_labels(scores, targets)
