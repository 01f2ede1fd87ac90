"""Test metrics of runs with intervals, and paired differences between runs with the same test images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist

import numpy as np

from mlic.evaluation.bootstrap import (
    FREQUENT_MAP,
    MEAN_OF_FOLDS,
    Bootstrap,
    Difference,
    Interval,
    paired_differences,
    why_not_paired,
)
from mlic.evaluation.predictions import Predictions
from mlic.report.reading import ReportedRun

HALF, CALIBRATED = "0.5", "calibrated"
DECISION_METRICS = ("precision_micro", "recall_micro", "cf1", "of1", "auc_thresholded")
METRICS = {
    HALF: ("map", MEAN_OF_FOLDS, FREQUENT_MAP, "auc_macro", *DECISION_METRICS),
    CALIBRATED: DECISION_METRICS,
}


@dataclass
class Comparison:
    """Comparison of the test metrics of several runs.

    Attributes:
        runs: runs with test predictions, by name.
        level: level of the intervals, such as 0.95; a difference is significant if its corrected p-value is below
            1 - level.
        bootstraps: bootstraps by threshold (HALF, CALIBRATED) and run; calibrated only for runs with thresholds.
        groups: names of runs with the same test images, classes and labels.
        refusals: pairs of runs that cannot be compared, and the reasons.
        differences: corrected differences of each metric between all pairs of each group, by threshold.
    """

    runs: dict[str, ReportedRun]
    level: float
    bootstraps: dict[str, dict[str, Bootstrap]]
    groups: list[list[str]]
    refusals: list[tuple[str, str, str]]
    differences: dict[str, list[Difference]] = field(default_factory=dict)

    def interval(self, run: str, threshold: str, metric: str) -> Interval | None:
        """Return the metric of a run with its interval, or None if there is none."""
        bootstrap = self.bootstraps[threshold].get(run)
        return None if bootstrap is None else bootstrap.interval(metric, self.level)

    def best(self, threshold: str, metric: str) -> dict[str, bool]:
        """Return the best run of each group of two or more, with True if it is significantly better than the next.

        Runs that share the highest value are all best, with False.
        """
        winners = {}
        for group in self.groups:
            values = {name: self.interval(name, threshold, metric) for name in group}
            known = sorted(((v.estimate, name) for name, v in values.items() if v is not None), reverse=True)
            if len(known) < 2:
                continue
            tied = [name for value, name in known if value == known[0][0]]
            ahead = len(tied) == 1 and self.is_ahead(known[0][1], known[1][1], threshold, metric)
            winners |= dict.fromkeys(tied, ahead)
        return winners

    def ranking(self, group: Sequence[str]) -> list[str]:
        """Return the runs of a group, the highest mAP first; runs without mAP are last."""
        values = {name: self.interval(name, HALF, "map") for name in group}
        return sorted(group, key=lambda name: -(value.estimate if (value := values[name]) else -1))

    def wins(self, group: Sequence[str]) -> dict[str, float]:
        """Return the share of the resamples in which each run of a group has the highest mAP; ties are shared."""
        found = _of(self.bootstraps[HALF], group, "map")
        values = np.nan_to_num(np.stack([item.resampled["map"] for item in found.values()]), nan=-1)
        best = values == values.max(axis=0)
        return dict(zip(found, (best / best.sum(axis=0)).mean(axis=1).tolist(), strict=True))

    def is_ahead(self, first: str, second: str, threshold: str, metric: str) -> bool:
        """Return True if the first run is significantly better than the second."""
        row = self.difference(first, second, threshold, metric)
        sign = 1 if row is not None and row.first == first else -1
        return row is not None and is_beyond_chance(row, self.level) and sign * row.estimate > 0

    def difference(self, first: str, second: str, threshold: str, metric: str) -> Difference | None:
        """Return the paired difference of two runs in the order in which it was computed."""
        for row in self.differences[threshold]:
            if row.metric == metric and {row.first, row.second} == {first, second}:
                return row
        return None


def is_beyond_chance(difference: Difference, level: float) -> bool:
    """Return True if the p-value, corrected for all pairs, is below 1 - level."""
    return difference.p_holm < 1 - level - 1e-12


def images_to_decide(difference: Difference, num_images: int, num_pairs: int, level: float = 0.95) -> float:
    """Estimate the number of test images at which a difference would be significant.

    The width of an interval shrinks with the square root of the number of images. The estimate assumes that the
    difference stays as it is, and takes the quantile of the normal distribution that Bonferroni's correction for
    `num_pairs` pairs asks for. It is infinite for a difference of 0.
    """
    usual, corrected = (NormalDist().inv_cdf(1 - (1 - level) / 2 / pairs) for pairs in (1, num_pairs))
    error = (difference.high - difference.low) / 2 / usual
    return num_images * (corrected * error / difference.estimate) ** 2 if difference.estimate else np.inf


def compare_runs(
    runs: Sequence[ReportedRun], *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Comparison:
    """Bootstrap all runs and compare runs with the same test images.

    Args:
        runs: runs; those without test predictions are ignored.
        resamples: number of resamples of each run.
        seed: seed of the resamples, the same for all runs, so that they are paired.
        level: level of the intervals.

    Raises:
        InputError: there are fewer than two resamples.
    """
    tested = {run.name: run for run in runs if run.test is not None}
    bootstraps: dict[str, dict[str, Bootstrap]] = {HALF: {}, CALIBRATED: {}}
    for name, run in tested.items():
        for threshold, values in ((HALF, 0.5), (CALIBRATED, run.thresholds)):
            if values is not None:
                bootstraps[threshold][name] = Bootstrap(
                    predictions_of(run), values, names=METRICS[threshold], resamples=resamples, seed=seed
                )
    groups = _group(tested)
    comparison = Comparison(tested, level, bootstraps, groups, _refusals(tested, groups))
    for threshold, metrics in METRICS.items():
        comparison.differences[threshold] = [
            difference
            for group in groups
            for metric in metrics
            for difference in paired_differences(_of(bootstraps[threshold], group, metric), metric, level)
        ]
    return comparison


def predictions_of(run: ReportedRun) -> Predictions:
    """Return the test predictions of a run that has them."""
    assert run.test is not None
    return run.test


def decide(predictions: Predictions, threshold: float | np.ndarray = 0.5) -> np.ndarray:
    """Return predicted labels bool (N, C): scores above the threshold, as in `evaluate_scores`."""
    return predictions.scores.astype(np.float64) > threshold


def _of(bootstraps: dict[str, Bootstrap], names: Sequence[str], metric: str) -> dict[str, Bootstrap]:
    found = {name: bootstraps[name] for name in names if name in bootstraps}
    return {name: bootstrap for name, bootstrap in found.items() if metric in bootstrap.estimates}


def _group(runs: dict[str, ReportedRun]) -> list[list[str]]:
    groups: list[list[str]] = []
    for name, run in runs.items():
        for group in groups:
            if why_not_paired(predictions_of(runs[group[0]]), predictions_of(run)) is None:
                group.append(name)
                break
        else:
            groups.append([name])
    return sorted(groups, key=len, reverse=True)


def _refusals(runs: dict[str, ReportedRun], groups: Sequence[Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return the reason for each pair of runs in different groups."""
    rows = []
    for one, other in combinations(groups, 2):
        reason = why_not_paired(predictions_of(runs[one[0]]), predictions_of(runs[other[0]])) or ""
        rows += [(first, second, reason) for first in one for second in other]
    return rows
