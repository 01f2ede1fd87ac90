"""Trials of heads on features in memory, and trials of whole runs for settings that heads cannot share."""

from collections.abc import Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from optuna import Trial, TrialPruned
from optuna.pruners import BasePruner, SuccessiveHalvingPruner

from mlic.data import MultiLabelDataModule, Split, class_weights
from mlic.data.splitting import stratified_folds
from mlic.errors import InputError
from mlic.models import Backbone
from mlic.runs.folder import EPOCHS_FILE
from mlic.training.closed_form import LEFT_OUT
from mlic.training.run import run
from mlic.training.trial import train_trial
from mlic.tuning.trials import GIVEN

EPOCH, FOLDS = "epoch", "folds"  # attributes of trials of heads
TRIALS = "trials"  # folder of the runs of trials
FOLDER = "folder"  # attribute of trials of runs

# Successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020): a trial is compared
# with the others after a tenth of its epochs, and again after KEPT times as many; one in KEPT continues. In 40 random
# trials of the default head on 740 photographs and 30 of `experiment=best`, the score after 10 % of the epochs had a
# correlation of 0.39 and 0.51 with the final one, after 30 % of 0.67 and 0.79, after half of 0.94. A median pruner
# that stops trials from half of their epochs on loses fewer good ones, but tries so few that the best score after the
# same time was lower.
FIRST_CHECK = 0.1
KEPT = 3


def make_pruner(config: DictConfig) -> BasePruner:
    """Return the pruner for the values that `HeadTrials` reports: of epochs or, in cross-validation, of folds."""
    folds = config.tune.folds
    first = folds // 2 if folds else round(FIRST_CHECK * config.trainer.max_epochs)
    return SuccessiveHalvingPruner(min_resource=max(1, first), reduction_factor=KEPT)


def last_epoch_counts(config: DictConfig) -> bool:
    """Return True if the last epoch of a trial is used instead of the best on val.

    With folds, it is also used if the course of a run depends on its length, because the final run has no val part and
    would have to end at the best epoch.
    """
    if config.callbacks.checkpoint.monitor is None:
        return True
    shaped = config.get("scheduler") is not None or "weight_average" in config.callbacks
    return bool(config.tune.folds) and shaped


def make_folds(datamodule: MultiLabelDataModule, number: int | None) -> list[MultiLabelDataModule]:
    """Return the data module itself, or one per fold whose val part is the fold and whose train part the other folds.

    Args:
        datamodule: data module with features, after `setup`.
        number: number of stratified folds of train and val together, `tune.folds`; None for the parts of the run.

    Raises:
        InputError: there are fewer than 2 folds, or more folds than images.
    """
    if number is None:
        return [datamodule]
    rows = np.sort(np.concatenate([datamodule.split.train, datamodule.split.val]))
    made = []
    for fold in stratified_folds(datamodule.table.select(rows), number, datamodule.split_settings.seed):
        own, train = copy(datamodule), np.delete(rows, fold)
        own.split = Split(train, rows[fold], np.array([], dtype=np.int64))
        table = own.table.select(train)
        own.class_weights = class_weights(table.counts(), table.classes, **own.weight_options)
        made.append(own)
    return made


@dataclass
class HeadTrials:
    """Trains the head of a trial on the training rows of each fold, and scores it on the val rows.

    A trial is trained like an ordinary run with its config, with the same result.

    Attributes:
        folds: result of `make_folds`.
        backbone: backbone of the features.
    """

    folds: Sequence[MultiLabelDataModule]
    backbone: Backbone

    def __call__(self, config: DictConfig, trial: Trial) -> float:
        """Return the metric of a trial: the mean over the folds, in its best or last epoch.

        Raises:
            TrialPruned: the trial is worse than others after the same number of epochs or folds.
        """
        curves: list[list[float]] = []
        several = len(self.folds) > 1
        for fold in self.folds:
            curves.append([])
            with closing(train_trial(config, self.backbone, fold, config.tune.metric)) as values:
                for value in values:
                    curves[-1].append(value)
                    if not several and len(curves[0]) < config.trainer.max_epochs:
                        _compare(config, trial, curves, len(curves[0]))
            if several and len(curves) < len(self.folds):
                _compare(config, trial, curves, len(curves))
        return _record(config, trial, curves)


def _compare(config: DictConfig, trial: Trial, curves: Sequence[Sequence[float]], step: int) -> None:
    """Prune the trial if others are better after the same number of epochs or folds."""
    trial.report(_record(config, trial, curves), step)
    if trial.should_prune() and GIVEN not in trial.user_attrs:
        raise TrialPruned


def _record(config: DictConfig, trial: Trial, curves: Sequence[Sequence[float]]) -> float:
    """Store epochs and folds in the trial, and return its value."""
    means = np.mean(curves, axis=0)
    if np.isnan(means).any():
        raise InputError(f"tune.metric={config.tune.metric} is undefined on val.", key="tune.metric")
    epoch = len(means) - 1 if last_epoch_counts(config) else int(np.argmax(means))
    trial.set_user_attr("epochs", len(means))
    trial.set_user_attr(EPOCH, epoch + 1)
    if config.tune.folds:
        trial.set_user_attr(FOLDS, [curve[epoch] for curve in curves])
    return float(means[epoch])


def evaluate_run(config: DictConfig, trial: Trial) -> float:
    """Train and test a trial as an ordinary run in `<output>/trials/<number>`.

    Returns:
        The metric on val or, for a head in closed form without val, of its leave-one-out.
    """
    metric = config.tune.metric
    config.output = str(Path(config.output).resolve() / TRIALS / str(trial.number))
    trial.set_user_attr(FOLDER, config.output)
    del config.tune
    results = run(config)
    # with epochs, leave-one-out scores are those of a part of the head
    has_epochs = (Path(config.output) / EPOCHS_FILE).exists()
    value = results.get("val", {} if has_epochs else results.get(LEFT_OUT, {})).get(metric)
    if value is None:
        raise InputError(
            f"tune.metric={metric}: the run has no such metric on val. Set data.split.val above 0.",
            key="tune.metric",
        )
    return value
