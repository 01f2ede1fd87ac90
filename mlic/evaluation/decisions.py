"""Precision, recall, F1 and ROC area of 0/1 decisions, for one or many weightings of the images.

Means over classes exclude classes without positives. Precision is 0 where there are positives but no predictions, as
with `zero_division=0` in scikit-learn.
"""

import numpy as np

NAMES = ("precision", "recall", "f1")


class Decisions:
    """Predicted and true labels.

    Attributes:
        predicted: bool (N, C); never True for an unknown label.
        targets: bool (N, C), True where the image has the class.
        known: bool (N, C), True where the label is known; None if all are.
    """

    def __init__(self, predicted: np.ndarray, targets: np.ndarray, known: np.ndarray | None = None) -> None:
        """Store the labels without predictions of unknown labels, which are neither right nor wrong."""
        self.predicted = predicted if known is None else predicted & known
        self.targets, self.known = targets, known

    def summarise(
        self, weights: np.ndarray | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return averages (R,) by name and figures of the classes (C, R) by name; NaN if undefined.

        Args:
            weights: whole numbers as float32 (N, R), one column per weighting; None weights each image 1 (R = 1).
        """
        hits = self.predicted & self.targets
        true, predicted, positive = (_count(flags, weights) for flags in (hits, self.predicted, self.targets))
        if self.known is not None:
            total = _count(self.known, weights)
        else:
            total = len(hits) if weights is None else weights.sum(axis=0, dtype=np.float64)
        per_class = precision_recall_f1(true, predicted, positive)
        macro = [mean_of_defined(values) for values in per_class]
        micro = precision_recall_f1(true.sum(axis=0), predicted.sum(axis=0), positive.sum(axis=0))
        averages = {}
        for average, values in (
            ("micro", micro),
            ("macro", macro),
            ("samples", self._sample_means(hits, weights)),
        ):
            averages |= {f"{name}_{average}": value for name, value in zip(NAMES, values, strict=True)}
        averages["auc_thresholded"] = mean_of_defined(_balanced_accuracy(true, predicted, positive, total))
        averages |= {"cp": macro[0], "cr": macro[1], "cf1": harmonic_mean(macro[0], macro[1])}
        averages |= dict(zip(("op", "or", "of1"), micro, strict=True))
        return averages, {**dict(zip(NAMES, per_class, strict=True)), "support": positive}

    def _sample_means(self, hits: np.ndarray, weights: np.ndarray | None) -> list[np.ndarray]:
        """Return means over images of the precision, recall and F1 of each image; 0 where undefined.

        Images without a known label are left out.
        """
        counts = (flags.sum(axis=1, dtype=np.float64) for flags in (hits, self.predicted, self.targets))
        true, chosen, positive = counts
        pairs = ((true, chosen), (true, positive), (2 * true, chosen + positive))
        ratios = [np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for a, b in pairs]
        if self.known is not None:
            counted = np.any(self.known, axis=1, keepdims=True)
            weights = counted.astype(np.float32) if weights is None else weights * counted
        if weights is None:
            return [ratio.mean(keepdims=True) for ratio in ratios]
        total = weights.sum(axis=0, dtype=np.float64)
        return [_divide(ratio @ weights, total, total > 0) for ratio in ratios]


def precision_recall_f1(
    true: np.ndarray, predicted: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute them from counts of true positives, predictions and positives of any shape; NaN without positives."""
    defined = positive > 0
    precision = np.where(defined & (predicted == 0), 0, _divide(true, predicted, defined & (predicted > 0)))
    return precision, _divide(true, positive, defined), _divide(2 * true, predicted + positive, defined)


def harmonic_mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the elementwise harmonic mean: 0 if both are 0, NaN if either is NaN."""
    total = first + second
    return np.divide(2 * first * second, total, out=total.copy(), where=total != 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over axis 0 without NaN; NaN if no values are left."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    return _divide(np.where(defined, values, 0.0).sum(axis=0), count, count > 0)


def _count(flags: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weighted number of set flags of each class, float64 (C, R); exact below 2^24 (float32)."""
    if weights is None:
        return np.count_nonzero(flags, axis=0)[:, None].astype(np.float64)
    return (flags.T.astype(np.float32) @ weights).astype(np.float64)


def _balanced_accuracy(
    true: np.ndarray, predicted: np.ndarray, positive: np.ndarray, total: np.ndarray | float
) -> np.ndarray:
    """Return (TPR + TNR) / 2 of each class, the ROC area of its 0/1 decisions; NaN with only one outcome."""
    negative = total - positive
    both = (positive > 0) & (negative > 0)
    return (_divide(true, positive, both) + _divide(negative - (predicted - true), negative, both)) / 2


def _divide(numerator: np.ndarray, denominator: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return the quotient where it is defined, else NaN."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=defined)
