"""Whether `mlic.predict rank=informative` helps: mAP against the number of labelled photographs.

The held-out part is drawn first, and chooses nothing. Of the other photographs, 100 random ones are labelled, a ridge
head is fitted on them, and 50 at a time are added: by doubt and diversity, by doubt alone, or by chance. The kinds of
doubt and diversity in `mlic.evaluation.active_learning` were chosen on splits of these other photographs alone.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.head_candidates import stored_features
from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.data import LabelTable, stratified_split
from mlic.evaluation.active_learning import doubt, informative_order
from mlic.evaluation.bootstrap import Bootstrap
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.models import RidgeHead

HELD_OUT = 0.3
LEVEL = 0.95
BOTH, DOUBT, CHANCE = "doubt and diversity", "doubt alone", "chance"
# order of unlabelled photographs by their doubts (N,), unit vectors (N, F) and a random generator
ORDERS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    BOTH: lambda doubts, vectors, _: informative_order(doubts, vectors),
    DOUBT: lambda doubts, *_: np.argsort(-doubts, kind="stable"),
    CHANCE: lambda doubts, _, generator: generator.permutation(len(doubts)),
}


def labelling(setting: Setting) -> list[Row]:
    """Compare the orders with 100 to 500 labels; the intervals are over held-out photographs and seeds."""
    table, features = stored_features(setting.overrides())
    split = stratified_split(table, val=0, test=HELD_OUT, seed=0, on_missing="warn")
    sizes = np.arange(10, 21, 5) if setting.quick else np.arange(100, 501, 50)
    seeds, resamples = setting.choose(25, 2), setting.choose(1000, 20)
    curves: dict[str, np.ndarray] = {}
    for name in ORDERS:
        problem = _Problem(table, features, split.train, split.test, resamples)
        curves[name] = np.stack([problem.curve(name, sizes, seed) for seed in range(seeds)])
    rows = [
        _compare(
            f"{one} - {other}, {sizes[1]} to {sizes[-1]} labels", curves[one][:, 1:], curves[other][:, 1:]
        )
        for one, other in ((BOTH, CHANCE), (DOUBT, CHANCE), (BOTH, DOUBT))
    ]
    first = [curves[name][:5, 1:] for name in (BOTH, CHANCE)]
    rows.append(_compare(f"{BOTH} - {CHANCE}, the first 5 seeds", first[0], first[1]))
    for place, size in enumerate(sizes):
        detail = ", ".join(f"{name} {curve[:, place, 0].mean():.3f}" for name, curve in curves.items())
        own, chance = (curves[name][:, [place]] for name in (BOTH, CHANCE))
        rows.append(_compare(f"{BOTH} - {CHANCE}, {size} labels", own, chance, detail))
    return rows


def _compare(name: str, first: np.ndarray, second: np.ndarray, more: str = "") -> Row:
    """Return the mean difference of curves (seeds, sizes, 1 + resamples), and its interval.

    Each resample draws photographs, the same for both curves, and seeds.
    """
    differences = (first - second).mean(axis=1)
    estimate, resampled = differences[:, 0].mean(), differences[:, 1:]
    drawn = np.random.default_rng(0).integers(len(differences), size=resampled.shape)
    means = np.take_along_axis(resampled, drawn, axis=0).mean(axis=0)
    # resampled photographs raise average precision: see mlic.evaluation.bootstrap
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + estimate - means.mean()
    better = int((differences[:, 0] > 0).sum())
    detail = (
        f"{LEVEL:.0%} interval {low:+.4f} to {high:+.4f}; above 0 for {better} of {len(differences)} seeds"
    )
    return Row(f"mAP: {name}", float(estimate), detail="; ".join(filter(None, [detail, more])))


class _Problem:
    """Photographs to label, and those held out."""

    def __init__(
        self, table: LabelTable, features: Tensor, pool: np.ndarray, test: np.ndarray, resamples: int
    ) -> None:
        self.table, self.features, self.pool, self.test = table, features, pool, test
        self.resamples = resamples
        self.vectors = functional.normalize(features).numpy()

    def curve(self, order: str, sizes: np.ndarray, seed: int) -> np.ndarray:
        """Return mAP of the held-out part with each number of labels, and on its resamples, (sizes, 1 + resamples)."""
        generator = np.random.default_rng(seed)
        rest = generator.permutation(self.pool)  # the same start for all orders
        labelled, curve = rest[:0], []
        for size in sizes:
            new, rest = np.split(rest, [size - len(labelled)])
            labelled = np.concatenate([labelled, new])
            features, labels = self.features[labelled], self.table.labels[labelled]
            head = RidgeHead(features.shape[1:], len(self.table.classes))
            left_out = head.fit_closed_form(features.__getitem__, labels).scores
            curve.append(self._precision(head))
            doubts = doubt(self._scores(head, rest), fit_thresholds(left_out, labels).per_class)
            rest = rest[ORDERS[order](doubts, self.vectors[rest], generator)]
        return np.stack(curve)

    def _scores(self, head: RidgeHead, rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return torch.sigmoid(head(self.features[rows])).double().numpy()

    def _precision(self, head: RidgeHead) -> np.ndarray:
        names, labels = self.table.file_names[self.test], self.table.labels[self.test]
        predictions = Predictions(names, self._scores(head, self.test), labels, self.table.classes)
        found = Bootstrap(predictions, names=["map"], resamples=self.resamples)
        return np.append(found.estimates["map"], found.resampled["map"])
