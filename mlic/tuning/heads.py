"""Trials of heads: training on features in memory, scored on val after each epoch."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from omegaconf import DictConfig
from optuna import Trial, TrialPruned
from optuna.pruners import BasePruner, SuccessiveHalvingPruner

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.models import Backbone
from mlic.training.trial import train_trial
from mlic.tuning.trials import GIVEN

EPOCH, FOLDS = "epoch", "folds"  # attributes of trials

# Successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020): a trial is compared
# with the others after a tenth of its epochs, and again after KEPT times as many; one in KEPT continues. In 40 random
# trials of the default head on 740 photographs and 30 of `experiment=best`, the score after 10 % of the epochs had a
# correlation of 0.39 and 0.51 with the final one, after 30 % of 0.67 and 0.79, after half of 0.94. A median pruner
# that stops trials from half of their epochs on loses fewer good ones, but tries so few that the best score after the
# same time was lower.
FIRST_CHECK = 0.1
KEPT = 3


class HeadTrials:
    """Trains the head of a trial on the training rows of each fold, and scores it on the val rows.

    A trial is trained like an ordinary run with its config, with the same result.
    """

    def __init__(self, config: DictConfig, folds: Sequence[MultiLabelDataModule], backbone: Backbone) -> None:
        """Create the function for `Search`.

        Args:
            config: the given config.
            folds: result of `make_folds`.
            backbone: backbone of the features.
        """
        self.folds, self.backbone, self.metric = folds, backbone, config.tune.metric
        self.last_epoch_counts = last_epoch_counts(config)
        self.checks = comparisons(config)

    def __call__(self, config: DictConfig, trial: Trial) -> float:
        """Return the metric of a trial: the mean over the folds, in its best or last epoch.

        Raises:
            TrialPruned: the trial is worse than others after the same number of epochs or folds.
        """
        after = partial(self._check_epoch, trial) if len(self.folds) == 1 else _go_on
        curves: list[list[float]] = []
        for fold in self.folds:
            curves.append(train_trial(config, self.backbone, fold, self.metric, after))
            if len(self.folds) > 1 and len(curves) in self.checks:
                self._check(trial, curves, len(curves))
        return self._record(trial, curves)

    def _check_epoch(self, trial: Trial, values: list[float]) -> None:
        if len(values) in self.checks:
            self._check(trial, [values], len(values))

    def _check(self, trial: Trial, curves: Sequence[Sequence[float]], step: int) -> None:
        trial.report(self._score(curves)[0], step)
        if trial.should_prune() and GIVEN not in trial.user_attrs:
            self._record(trial, curves, stopped=True)
            raise TrialPruned

    def _record(self, trial: Trial, curves: Sequence[Sequence[float]], *, stopped: bool = False) -> float:
        """Store epochs and folds in the trial, and return its value."""
        value, epoch = self._score(curves)
        if len(curves[0]) > 1 or stopped:  # not of a head in closed form
            trial.set_user_attr("epochs", len(curves[0]))
            trial.set_user_attr(EPOCH, epoch + 1)
        if len(self.folds) > 1:
            trial.set_user_attr(FOLDS, [curve[epoch] for curve in curves])
        return value

    def _score(self, curves: Sequence[Sequence[float]]) -> tuple[float, int]:
        means = np.mean(list(zip(*curves, strict=False)), axis=1)
        if np.isnan(means).any():
            raise InputError(f"tune.metric={self.metric} is undefined on val.", key="tune.metric")
        epoch = len(means) - 1 if self.last_epoch_counts else int(np.argmax(means))
        return float(means[epoch]), epoch


def _go_on(values: list[float]) -> None:
    """Compare folds with those of other trials, but no epochs."""


def comparisons(config: DictConfig) -> list[int]:
    """Return the numbers of epochs or, in cross-validation, of folds, after which trials are compared."""
    folds = config.tune.folds
    total, first = (folds, folds // 2) if folds else (config.trainer.max_epochs, 0)
    first = max(1, first or round(FIRST_CHECK * total))
    return [first * KEPT**rung for rung in range(total) if first * KEPT**rung < total]


def make_pruner(config: DictConfig) -> BasePruner:
    """Return the pruner for the values that `HeadTrials` reports."""
    return SuccessiveHalvingPruner(min_resource=min(comparisons(config), default=1), reduction_factor=KEPT)


def last_epoch_counts(config: DictConfig) -> bool:
    """Return True if the last epoch of a run is used instead of the best on val.

    With folds, it is also used if the course of a run depends on its length, because the final run has no val part and
    would have to end at the best epoch.
    """
    if config.callbacks.checkpoint.monitor is None:
        return True
    shaped = config.get("scheduler") is not None or "weight_average" in config.callbacks
    return bool(config.tune.folds) and shaped
