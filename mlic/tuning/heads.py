"""Trials of heads: training on features in memory, scored on val after each epoch."""

from collections.abc import Callable, Sequence
from functools import partial
from math import nan

import lightning as L
import numpy as np
from omegaconf import DictConfig
from optuna import Trial, TrialPruned

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.models import Backbone, MultiLabelClassifier
from mlic.training.closed_form import LEFT_OUT
from mlic.training.run import train_trial
from mlic.tuning.trials import GIVEN

EPOCH, FOLDS = "epoch", "folds"  # attributes of trials

# In 40 random trials of the default head on 740 photographs and 30 of `experiment=best`, the score after half of the
# epochs had a correlation of 0.94 with the final one; after 30 %, 0.67 and 0.79. Searches that stopped trials earlier,
# with the same number of epochs in total, differed by less than 0.003 in their best score.
FAIR_SHARE = 0.5  # share of the epochs, or of the folds, before a trial may be stopped
CHECKS = 10  # in all epochs, because each is written to the storage of the study


class ScoreCurve(L.Callback):
    """Collects the metric on val of each epoch.

    Attributes:
        values: the metric after each epoch; NaN if undefined.
    """

    def __init__(self, metric: str, after: Callable[[list[float]], None] | None = None) -> None:
        """Collect `metric`; `after` is called with all values after each epoch."""
        self.metric, self.after = metric, after
        self.values: list[float] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the metric, which the module has computed before."""
        assert isinstance(pl_module, MultiLabelClassifier)
        self.values.append(pl_module.epoch_metrics.get(f"val/{self.metric}", nan))
        if self.after is not None:
            self.after(self.values)


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
        epochs = config.trainer.max_epochs
        self.checked_epochs = range(max(1, round(FAIR_SHARE * epochs)), epochs, max(1, epochs // CHECKS))

    def __call__(self, config: DictConfig, trial: Trial) -> float:
        """Return the metric of a trial: the mean over the folds, in its best or last epoch.

        Raises:
            TrialPruned: the trial is worse than others after the same number of epochs or folds.
        """
        curves: list[list[float]] = []
        after = partial(self._check_epoch, trial) if len(self.folds) == 1 else None
        for fold in self.folds:
            curve = ScoreCurve(self.metric, after)
            model = train_trial(config, self.backbone, fold, curve)
            curves.append(curve.values or [model.results[LEFT_OUT][self.metric]])
            if FAIR_SHARE * len(self.folds) <= len(curves) < len(self.folds):
                self._check(trial, curves, len(curves))
        return self._record(trial, curves)

    def _check_epoch(self, trial: Trial, values: list[float]) -> None:
        if len(values) in self.checked_epochs:
            self._check(trial, [values], len(values))

    def _check(self, trial: Trial, curves: Sequence[Sequence[float]], step: int) -> None:
        trial.report(self._score(curves)[0], step)
        if GIVEN not in trial.user_attrs and trial.should_prune():
            self._record(trial, curves)
            raise TrialPruned

    def _record(self, trial: Trial, curves: Sequence[Sequence[float]]) -> float:
        """Store epochs and folds in the trial, and return its value."""
        value, epoch = self._score(curves)
        if len(curves[0]) > 1:
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


def last_epoch_counts(config: DictConfig) -> bool:
    """Return True if the last epoch of a run is used instead of the best on val.

    With folds, it is also used if the course of a run depends on its length, because the final run has no val part and
    would have to end at the best epoch.
    """
    if config.callbacks.checkpoint.monitor is None:
        return True
    shaped = config.get("scheduler") is not None or "weight_average" in config.callbacks
    return bool(config.tune.folds) and shaped
