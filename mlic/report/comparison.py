"""Test metrics of runs with intervals, and paired differences between runs with the same test images."""

from collections.abc import Iterable, Sequence
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

    def intervals(
        self, runs: Iterable[str], threshold: str = HALF, metric: str = "map"
    ) -> dict[str, Interval]:
        """Return the metric of the runs that have one, the highest first."""
        values = {name: self.interval(name, threshold, metric) for name in runs}
        known = {name: value for name, value in values.items() if value is not None}
        return dict(sorted(known.items(), key=lambda item: -item[1].estimate))

    def ranking(self, group: Sequence[str]) -> list[str]:
        """Return the runs of a group, the highest mAP first; runs without mAP are last."""
        return list(dict.fromkeys([*self.intervals(group), *group]))

    def best(self, threshold: str, metric: str) -> dict[str, bool]:
        """Return the best run of each group of two or more, with True if it is significantly better than the next.

        Runs that share the highest value are all best, with False.
        """
        winners = {}
        for group in self.groups:
            known = self.intervals(group, threshold, metric)
            if len(known) > 1:
                first, second, *_ = known
                tied = [name for name in known if known[name].estimate == known[first].estimate]
                ahead = len(tied) == 1 and self.is_ahead(first, second, threshold, metric)
                winners |= dict.fromkeys(tied, ahead)
        return winners

    def wins(self, group: Sequence[str]) -> dict[str, float]:
        """Return the share of the resamples in which each run of a group has the highest mAP; ties are shared."""
        found = _of(self.bootstraps[HALF], group, "map")
        values = np.nan_to_num(np.stack([item.resampled["map"] for item in found.values()]), nan=-1)
        best = values == values.max(axis=0)
        return dict(zip(found, (best / best.sum(axis=0)).mean(axis=1).tolist(), strict=True))

    def difference(self, first: str, second: str, threshold: str, metric: str) -> Difference | None:
        """Return the paired difference of two runs in the order in which it was computed."""
        pair = {first, second}
        rows = (
            row
            for row in self.differences[threshold]
            if row.metric == metric and {row.first, row.second} == pair
        )
        return next(rows, None)

    def is_ahead(self, first: str, second: str, threshold: str, metric: str) -> bool:
        """Return True if the first run is significantly better than the second."""
        row = self.difference(first, second, threshold, metric)
        return row is not None and winner(row, self.level) == first


def winner(difference: Difference, level: float) -> str:
    """Return the run that is better beyond chance, by the p-value corrected for all pairs; "" in case of a tie."""
    if not difference.p_holm < 1 - level - 1e-12:  # NaN if the difference is undefined
        return ""
    return difference.first if difference.estimate > 0 else difference.second


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


def rules_of(run: ReportedRun) -> dict[str, float | np.ndarray]:
    """Return the thresholds by rule: `own`, `common`, `half`, as far as the run has them.

    The first is that of `mlic.predict`. Those of `own` are (C,), or (N, C) for a cross-validation.
    """
    known = {"own": run.thresholds, "common": run.common_threshold, "half": 0.5}
    return {name: thresholds for name, thresholds in known.items() if thresholds is not None}


def predict_rule(run: ReportedRun) -> float | np.ndarray:
    """Return the thresholds of `mlic.predict`: one per class, or 0.5 without any."""
    return next(iter(rules_of(run).values()))


def _of(bootstraps: dict[str, Bootstrap], names: Sequence[str], metric: str) -> dict[str, Bootstrap]:
    found = {name: bootstraps[name] for name in names if name in bootstraps}
    return {name: bootstrap for name, bootstrap in found.items() if metric in bootstrap.estimates}


def _group(runs: dict[str, ReportedRun]) -> list[list[str]]:
    groups: list[list[str]] = []
    for name, run in runs.items():
        same = [
            group
            for group in groups
            if not why_not_paired(predictions_of(runs[group[0]]), predictions_of(run))
        ]
        if same:
            same[0].append(name)
        else:
            groups.append([name])
    return sorted(groups, key=len, reverse=True)


def _refusals(runs: dict[str, ReportedRun], groups: Sequence[Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return the reason for each pair of runs in different groups."""
    reasons = [
        (one, other, why_not_paired(predictions_of(runs[one[0]]), predictions_of(runs[other[0]])) or "")
        for one, other in combinations(groups, 2)
    ]
    return [(first, second, reason) for one, other, reason in reasons for first in one for second in other]
