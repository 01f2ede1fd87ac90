"""Average precision and ROC area, exact with ties, for one or many weightings of the images.

Both depend on the scores only through the runs of equal scores that contain a positive, and through the number of
negatives in and above each run. The scores are therefore sorted once. For any weights of the images, such as those of
a bootstrap resample, the rest are sums over a few thousand runs.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Ranking:
    """Rankings of N items for C classes: the runs of equal scores with a positive, class after class, best first.

    Attributes:
        falling: negated scores (C, N), so that the best comes first in numpy's order; infinity for unknown labels,
            which are below every positive and therefore outside of all runs.
        targets: bool (C, N).
        num_images: number of images; items whose indices differ by a multiple of it share an image and its weight.
        known: bool (C, N), True where the label is known; None if all are.
        run_values: value of `falling` in each run (G,).
        first_run: first run of each class, then G (C + 1,).
        starts: number of items of the class above each run (G,).
        sizes: number of items in each run (G,).
        positives: number of positives in each run (G,).
    """

    def __init__(
        self, scores: np.ndarray, targets: np.ndarray, num_images: int, known: np.ndarray | None = None
    ) -> None:
        """Rank float scores (C, N) with bool targets (C, N), not empty; `known` is that of the attributes."""
        self.targets, self.num_images, self.known = targets, num_images, known
        self.falling = falling = -scores if known is None else np.where(known, -scores, np.inf)
        owner, _ = np.nonzero(targets)
        values = falling[targets]
        values = values[np.lexsort((values, owner))]
        opens = np.ones(len(values), dtype=bool)
        opens[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
        first = np.flatnonzero(opens)
        self.run_values = values[first]
        self.first_run = np.searchsorted(owner[first], np.arange(len(targets) + 1))
        self.positives = np.diff(np.append(first, len(values)))

        # sorting values is several times faster than argsort, and there are few runs
        ranked = np.sort(falling, axis=1)
        bounds = np.empty((2, len(first)), dtype=np.int64)
        for row, begin, end in zip(ranked, self.first_run, self.first_run[1:], strict=False):
            for bound, side in zip(bounds, ("left", "right"), strict=True):
                bound[begin:end] = row.searchsorted(self.run_values[begin:end], side=side)
        self.starts, self.sizes = bounds[0], bounds[1] - bounds[0]

    @cached_property
    def _membership(self) -> "csr_array":
        """Return a matrix (3 G, images) that counts positives and negatives in each run, and negatives above it."""
        # only here, because it takes a third of a second, which predictions need not wait for
        from scipy.sparse import coo_array

        num_runs, num_items = len(self.run_values), self.falling.shape[1]
        rows, columns = [], []
        images = np.arange(num_items) % self.num_images
        for row, positive, begin, end in zip(
            self.falling, self.targets, self.first_run, self.first_run[1:], strict=False
        ):
            run = begin + self.run_values[begin:end].searchsorted(row, side="left")
            inside = np.flatnonzero(run < end)  # negatives below the last positive affect neither metric
            run = run[inside]
            kind = np.where(positive[inside], 0, np.where(row[inside] == self.run_values[run], 1, 2))
            rows.append(kind * num_runs + run)
            columns.append(images[inside])
        entries = (np.concatenate(rows), np.concatenate(columns))
        ones = np.ones(len(entries[0]), dtype=np.float32)
        return coo_array((ones, entries), shape=(3 * num_runs, self.num_images)).tocsr()

    def _count(self, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count positives and negatives of each run, and negatives between it and the run before, float64 (G, R)."""
        if weights is not None:
            positives, tied, above = (
                (self._membership @ weights).astype(np.float64).reshape(3, len(self.starts), -1)
            )
            return positives, tied, above
        previous_end = np.concatenate([[0], (self.starts + self.sizes)[:-1]])
        previous_end[self.first_run[self.first_run < len(self.starts)]] = 0
        counts = np.stack([self.positives, self.sizes - self.positives, self.starts - previous_end])
        positives, tied, above = counts.astype(np.float64)[:, :, None]
        return positives, tied, above

    def summarise(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Compute average precision and area under the ROC curve of each class.

        Equivalent to scikit-learn's `average_precision_score` (the sum over runs of precision times the gain in recall)
        and `roc_auc_score` (the probability that a positive ranks above a negative; a tie counts half).

        Args:
            weights: whole numbers as float32 (images, R), one column per weighting; None weights each image 1 (R = 1).

        Returns:
            Two arrays float64 (C, R); NaN if a class has no positives or, for the area, only one outcome.
        """
        num_classes, num_items = self.falling.shape
        shape = (num_classes, 1 if weights is None else weights.shape[1])
        precision_sum, area_above = np.zeros(shape), np.zeros(shape)
        total_positives = np.zeros(shape)
        if len(self.starts):
            positives, tied, above = self._count(weights)
            present = np.flatnonzero(np.diff(self.first_run))
            first, runs_of_class = self.first_run[present], np.diff(self.first_run)[present]
            true_seen = _cumulate(positives, first, runs_of_class)
            false_seen = _cumulate(tied + above, first, runs_of_class)
            seen = true_seen + false_seen
            precision = np.divide(true_seen, seen, out=np.zeros_like(seen), where=seen > 0)
            precision_sum[present] = np.add.reduceat(positives * precision, first, axis=0)
            area_above[present] = np.add.reduceat(positives * (false_seen - tied / 2), first, axis=0)
            total_positives[present] = np.add.reduceat(positives, first, axis=0)
        if self.known is None:
            images = self.num_images if weights is None else weights.sum(axis=0, dtype=np.float64)
            total = images * (num_items / self.num_images)
        else:
            of_image = self.known.reshape(num_classes, -1, self.num_images).sum(axis=1, dtype=np.float64)
            total = of_image.sum(axis=1, keepdims=True) if weights is None else of_image @ weights
        pairs = total_positives * (total - total_positives)
        return _divide(precision_sum, total_positives), 1 - _divide(area_above, pairs)


def _cumulate(values: np.ndarray, first: np.ndarray, runs_of_class: np.ndarray) -> np.ndarray:
    """Compute cumulative sums (G, R) that restart with each class; exact for whole numbers."""
    sums = np.cumsum(values, axis=0)
    before = np.concatenate([np.zeros((1, values.shape[1])), sums[first[1:] - 1]])
    return sums - np.repeat(before, runs_of_class, axis=0)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
