"""Average precision and the area under the ROC curve, exact with ties, for one weighting of the images or many.

Both depend on the scores only through the runs of equal score that hold a positive, and through how many negatives
stand in and above each. So the scores are sorted once; whatever the weights of the images, a bootstrap resample say,
the rest is sums over a few thousand such runs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Ranking:
    """C rankings of N items, each cut into runs of equal score; best first, class after class.

    Attributes:
        order: (C, N) item at each place.
        opens: (C * N,) bool, whether a run begins at that place.
        is_positive: (C * N,) bool, whether the item at that place is positive.
        starts: (G,) place where each run with a positive begins, counted over all classes.
        sizes: (G,) items in each of these runs.
        positives: (G,) positives in each of these runs.
        num_images: items that differ by a multiple of it are the same image, and share a weight.
    """

    order: np.ndarray
    opens: np.ndarray
    is_positive: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    positives: np.ndarray
    num_images: int

    @classmethod
    def build(cls, scores: np.ndarray, targets: np.ndarray, num_images: int) -> "Ranking":
        """Sort scores (C, N) float with targets (C, N) bool; neither may be empty."""
        falling = -scores
        order = np.argsort(falling, axis=1)
        ranked = np.take_along_axis(falling, order, axis=1)
        is_positive = np.take_along_axis(targets, order, axis=1).ravel()
        opens = np.ones(ranked.shape, dtype=bool)
        np.not_equal(ranked[:, 1:], ranked[:, :-1], out=opens[:, 1:])
        starts = np.flatnonzero(opens)
        ends = np.append(starts[1:], opens.size)
        seen = np.concatenate([[0], np.cumsum(is_positive)])
        positives = seen[ends] - seen[starts]
        kept = positives > 0
        starts = starts[kept]
        return cls(order, opens.ravel(), is_positive, starts, ends[kept] - starts, positives[kept], num_images)

    @cached_property
    def class_of_run(self) -> np.ndarray:
        """(G,) the class of each run."""
        return self.starts // self.order.shape[1]

    @cached_property
    def _membership(self) -> sparse.csr_array:
        """(3 G, images): what adds to the positives of a run, to its negatives, to the negatives just above it."""
        num_runs = len(self.starts)
        places = np.arange(self.opens.size)
        run = np.searchsorted(self.starts + self.sizes, places, side="right")  # the first that ends after the place
        inside = run < num_runs
        inside[inside] = self.class_of_run[run[inside]] == places[inside] // self.order.shape[1]
        run, places = run[inside], places[inside]
        kind = np.where(self.is_positive[places], 0, np.where(places >= self.starts[run], 1, 2))
        images = self.order.ravel()[places] % self.num_images
        entries = (np.ones(len(places), dtype=np.float32), (kind * num_runs + run, images))
        return sparse.coo_array(entries, shape=(3 * num_runs, self.num_images)).tocsr()

    def _count(self, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positives of each run, its negatives, the negatives between it and the run before: each (G, R)."""
        if weights is not None:
            positives, tied, above = (self._membership @ weights).astype(np.float64).reshape(3, len(self.starts), -1)
            return positives, tied, above
        first_place = self.class_of_run * self.order.shape[1]
        previous_end = np.concatenate([[0], (self.starts + self.sizes)[:-1]])
        above = self.starts - np.maximum(previous_end, first_place)
        positives, tied, above = np.stack([self.positives, self.sizes - self.positives, above]).astype(np.float64)
        return positives[:, None], tied[:, None], above[:, None]

    def summarise(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and area under the ROC curve of each class.

        Equivalent to scikit-learn's `average_precision_score` (the sum over runs of precision times the gain in
        recall) and `roc_auc_score` (the chance that a positive stands above a negative, ties counting a half).

        Args:
            weights: (images, R) float32 whole numbers, one column a weighting; None weighs all images 1, with R = 1.

        Returns:
            Two arrays (C, R) float64, NaN where a class has no positive, or for the area only one outcome.
        """
        num_classes, num_items = self.order.shape
        positives, tied, above = self._count(weights)
        shape = (num_classes, positives.shape[1])
        precision_sum, area_above = np.zeros(shape), np.zeros(shape)
        total_positives = np.zeros(shape)
        if len(self.starts):
            present, first = np.unique(self.class_of_run, return_index=True)
            runs_of_class = np.diff(np.append(first, len(self.starts)))
            true_seen = _cumulate(positives, first, runs_of_class)
            false_seen = _cumulate(tied + above, first, runs_of_class)
            seen = true_seen + false_seen
            precision = np.divide(true_seen, seen, out=np.zeros_like(seen), where=seen > 0)
            precision_sum[present] = np.add.reduceat(positives * precision, first, axis=0)
            area_above[present] = np.add.reduceat(positives * (false_seen - tied / 2), first, axis=0)
            total_positives[present] = np.add.reduceat(positives, first, axis=0)
        total = np.float64(num_items) if weights is None else weights.sum(axis=0) * (num_items / self.num_images)
        pairs = total_positives * (total - total_positives)
        return _divide(precision_sum, total_positives), 1 - _divide(area_above, pairs)


def _cumulate(values: np.ndarray, first: np.ndarray, runs_of_class: np.ndarray) -> np.ndarray:
    """Cumulative sums (G, R) that begin anew with each class; exact for whole numbers."""
    sums = np.cumsum(values, axis=0)
    before = np.concatenate([np.zeros((1, values.shape[1])), sums[first[1:] - 1]])
    return sums - np.repeat(before, runs_of_class, axis=0)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
