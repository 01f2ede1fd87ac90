"""Figures of a candidate over all folds, and the blend of two candidates."""

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from benchmarks.head_candidates import Fitted
from mlic.data import LabelTable
from mlic.evaluation.bootstrap import LEVEL
from mlic.evaluation.calibration import expected_calibration_error
from mlic.evaluation.metrics import ScoredImages, evaluate_scores

Key = tuple[int, int]


def blend(ridge: Fitted, dense: Fitted, *, standardised: bool) -> Fitted:
    """Return the mean of two results; standardised logits have deviation 1 a class over the training rows."""
    first, second = (ridge.spread, dense.spread) if standardised else (np.ones(1), np.ones(1))
    # on the scale of the ridge's logits, which are calibrated
    logits = first * (ridge.logits / first + dense.logits / second) / 2
    seconds = float(ridge.seconds) + float(dense.seconds)
    return Fitted(ridge.rows, logits, ridge.spread, np.full(logits.shape[1], 0.5), seconds, np.nan)


class Scores:
    """The mAP of a candidate in each fold, also on resamples of all images, and its other figures."""

    def __init__(self, table: LabelTable, weights: np.ndarray, results: Mapping[Key, Fitted]) -> None:
        """Compute all; `weights` float32 (N, R) are how often each image of the table is drawn."""
        self.maps: dict[Key, float] = {}
        self.resampled: dict[Key, np.ndarray] = {}
        scores, decisions, targets = [], [], []
        for key, fitted in results.items():
            probabilities = expit(fitted.logits)
            images = ScoredImages(fitted.logits, table.labels[fitted.rows], table.classes)
            self.maps[key] = float(images.summarise(names=["map"])[0]["map"][0])
            self.resampled[key] = images.summarise(weights[fitted.rows], ["map"])[0]["map"]
            scores.append(probabilities)
            decisions.append(probabilities > fitted.thresholds)
            targets.append(table.labels[fitted.rows])
        self.seconds = float(np.mean([fitted.seconds for fitted in results.values()]))
        pooled, self.targets = np.concatenate(scores), np.concatenate(targets)
        decided = evaluate_scores(np.concatenate(decisions).astype(float), self.targets, table.classes)
        self.f1_micro, self.f1_macro = decided["f1_micro"], decided["f1_macro"]
        clipped = pooled.clip(1e-7, 1 - 1e-7)
        self.log_loss = float(-np.log(np.where(self.targets == 1, clipped, 1 - clipped)).mean())
        self.calibration_error = expected_calibration_error(pooled, self.targets)

    def mean(self) -> str:
        """Return mean and standard deviation over folds and seeds."""
        values = np.array(list(self.maps.values()))
        return f"{values.mean():.4f} ± {values.std():.3f}"

    def minus(self, other: "Scores") -> str:
        """Return the mean difference over folds and seeds, with its interval (centred percentiles)."""
        keys = [key for key in self.maps if key in other.maps]
        if not keys:
            return ""
        difference = np.mean([self.maps[key] - other.maps[key] for key in keys])
        resampled = np.mean([self.resampled[key] - other.resampled[key] for key in keys], axis=0)
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - resampled.mean()
        return f"{difference:+.4f} ({difference + low:+.4f} to {difference + high:+.4f})"
