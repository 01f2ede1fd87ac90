"""Precision, recall, F1 and ROC area of 0/1 decisions, for one or many weightings of the images.

Means over classes exclude classes without positives. Precision is 0 where there are positives but no predictions, as
with `zero_division=0` in scikit-learn.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Decisions:
    """Predicted and true labels.

    Attributes:
        predicted: bool (N, C); never True for an unknown label.
        targets: bool (N, C), True where the image has the class.
        known: bool (N, C), True where the label is known; None if all are.
    """

    predicted: np.ndarray
    targets: np.ndarray
    known: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Remove predictions of unknown labels, which are neither right nor wrong."""
        if self.known is not None:
            object.__setattr__(self, "predicted", self.predicted & self.known)

    def summarise(
        self, weights: np.ndarray | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return averages (R,) by name and figures of the classes (C, R) by name; NaN if undefined.

        Args:
            weights: whole numbers as float32 (N, R), one column per weighting; None weights each image 1 (R = 1).
        """
        hits = self.predicted & self.targets
        true, predicted, positive = (_count(flags, weights) for flags in (hits, self.predicted, self.targets))
        total = self._count_known(weights)
        precision, recall, f1 = precision_recall_f1(true, predicted, positive)
        per_class = {"precision": precision, "recall": recall, "f1": f1, "support": positive}

        macro = {name: mean_of_defined(per_class[name]) for name in ("precision", "recall", "f1")}
        micro = precision_recall_f1(true.sum(axis=0), predicted.sum(axis=0), positive.sum(axis=0))
        samples = self._sample_means(hits, weights)
        averages = {}
        for average, values in (("micro", micro), ("macro", macro.values()), ("samples", samples)):
            averages |= {f"{name}_{average}": value for name, value in zip(macro, values, strict=True)}
        averages["auc_thresholded"] = mean_of_defined(_balanced_accuracy(true, predicted, positive, total))
        averages |= {"cp": macro["precision"], "cr": macro["recall"]}
        averages["cf1"] = harmonic_mean(macro["precision"], macro["recall"])
        averages |= dict(zip(("op", "or", "of1"), micro, strict=True))
        return averages, per_class

    def _count_known(self, weights: np.ndarray | None) -> np.ndarray | np.float64:
        """Return the weighted number of images with a known label, of each class if it differs between them."""
        if self.known is not None:
            return _count(self.known, weights)
        return np.float64(len(self.targets)) if weights is None else weights.sum(axis=0, dtype=np.float64)

    def _sample_means(self, hits: np.ndarray, weights: np.ndarray | None) -> list[np.ndarray]:
        """Return means over images of the precision, recall and F1 of each image; 0 where undefined.

        Images without a known label are left out.
        """
        true, chosen, positive = (
            np.count_nonzero(flags, axis=1).astype(np.float64)
            for flags in (hits, self.predicted, self.targets)
        )
        pairs = ((true, chosen), (true, positive), (2 * true, chosen + positive))
        ratios = [np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for a, b in pairs]
        if self.known is not None:
            counted = np.any(self.known, axis=1, keepdims=True)
            weights = counted.astype(np.float32) if weights is None else weights * counted
        if weights is None:
            return [ratio.mean(keepdims=True) for ratio in ratios]
        total = weights.sum(axis=0, dtype=np.float64)
        return [
            np.divide(ratio @ weights, total, out=np.full(total.shape, np.nan), where=total > 0)
            for ratio in ratios
        ]


def precision_recall_f1(
    true: np.ndarray, predicted: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute them from counts of true positives, predictions and positives of any shape; NaN without positives."""
    defined = positive > 0
    zeros = np.where(defined, 0.0, np.nan)
    precision = np.divide(true, predicted, out=zeros.copy(), where=defined & (predicted > 0))
    recall = np.divide(true, positive, out=zeros.copy(), where=defined)
    f1 = np.divide(2 * true, predicted + positive, out=zeros.copy(), where=defined)
    return precision, recall, f1


def harmonic_mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the elementwise harmonic mean: 0 if both are 0, NaN if either is NaN."""
    total = first + second
    return np.divide(2 * first * second, total, out=total.copy(), where=total != 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over axis 0 without NaN; NaN if no values are left."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _count(flags: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weighted number of set flags of each class, float64 (C, R); exact below 2^24 (float32)."""
    if weights is None:
        return np.count_nonzero(flags, axis=0)[:, None].astype(np.float64)
    return (flags.T.astype(np.float32) @ weights).astype(np.float64)


def _balanced_accuracy(
    true: np.ndarray, predicted: np.ndarray, positive: np.ndarray, total: np.ndarray | np.float64
) -> np.ndarray:
    """Return (TPR + TNR) / 2 of each class, the ROC area of its 0/1 decisions; NaN with only one outcome."""
    negative = total - positive
    both = (positive > 0) & (negative > 0)
    undefined = np.full(true.shape, np.nan)
    sensitivity = np.divide(true, positive, out=undefined.copy(), where=both)
    specificity = np.divide(negative - (predicted - true), negative, out=undefined, where=both)
    return (sensitivity + specificity) / 2
