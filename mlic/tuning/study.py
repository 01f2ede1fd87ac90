"""The Optuna study of a search: its storage, and the loop over its trials."""

import logging
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna import Study, Trial, TrialPruned
from optuna.pruners import BasePruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mlic.errors import InputError
from mlic.tuning.trials import GIVEN, TrialConfigs

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"
SETTINGS, ERROR = "settings", "error"  # attributes of the study, and of failed trials
MOST_REPEATS = 20


def open_study(tune: DictConfig, pruner: BasePruner, settings: Mapping[str, Any]) -> Study:
    """Create a study, or join the one of this name in the storage.

    Args:
        tune: `study`, its name; `storage`, `sqlite:///<file>`, the path of a journal file, or None for memory; `seed`
            of the sampler, where a process that joins a study draws its own numbers.
        pruner: pruner of the study.
        settings: all settings that affect results, which must be the same in all processes.

    Raises:
        InputError: the storage cannot be used, or has a study of this name with other settings.
    """
    # settings are drawn together, within the groups of those that trials have in common
    sampler = TPESampler(seed=tune.seed, multivariate=True, group=True, constant_liar=False)
    storage = _open_storage(tune.storage)
    study = optuna.create_study(
        storage=storage, study_name=tune.study, sampler=sampler, pruner=pruner, direction="maximize",
        load_if_exists=True,
    )  # fmt: skip
    if SETTINGS not in study.user_attrs:
        study.set_user_attr(SETTINGS, dict(settings))
        return study
    there = study.user_attrs[SETTINGS]
    keys = sorted(key for key in there.keys() | settings.keys() if there.get(key) != settings.get(key))
    if keys:
        shown = "; ".join(f"{key}: {there.get(key)} there, {settings.get(key)} here" for key in keys[:10])
        raise InputError(
            f"tune.study={tune.study}: '{tune.storage}' has a study of this name with other settings ({shown}). Use "
            "the same settings, or another name.",
            key="tune.study",
        )
    sampler.reseed_rng()  # with the same seed, it would suggest the same settings again
    logger.info("tune: the study '%s' has %d finished trials", tune.study, len(finished(study)))
    return study


def _open_storage(storage: str | None) -> BaseStorage:
    if storage is None:
        return InMemoryStorage()
    try:
        if "://" in storage.removeprefix(SQLITE):
            raise ValueError(f"expected {SQLITE}<file> or the path of a journal file")
        Path(storage.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        if storage.startswith(SQLITE):
            return RDBStorage(storage)
        opened = JournalStorage(JournalFileBackend(storage))
        opened.get_all_studies()
        return opened
    except Exception as error:  # of the database or the file system, or a file with something else
        raise InputError(f"tune.storage={storage}: {error}.", key="tune.storage") from error


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that count: complete, pruned and failed ones, but no interrupted ones."""
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def given_trial(study: Study) -> FrozenTrial | None:
    """Return the complete trial of the given config; None if there is none."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    return next((trial for trial in complete if GIVEN in trial.user_attrs), None)


@dataclass
class Search:
    """Runs trials of a study, first that of the given config.

    Attributes:
        study: result of `open_study`.
        configs: configs of the trials.
        evaluate: trains a trial and returns its value; may raise `TrialPruned`.
        stop_on_error: raise the first error of a trial, instead of recording it as a bad trial.
    """

    study: Study
    configs: TrialConfigs
    evaluate: Callable[[DictConfig, Trial], float]
    stop_on_error: bool = False

    def run(self, after: Callable[[], object]) -> None:
        """Run trials until `tune.trials` or `tune.minutes` are spent; the given config is always trained.

        Args:
            after: called at the beginning and after each trial.

        Raises:
            InputError: the given config cannot be trained.
        """
        trials, minutes = self.configs.config.tune.trials, self.configs.config.tune.minutes
        end, repeats = time.monotonic() + 60 * (inf if minutes is None else minutes), 0
        given, *starts = self.configs.first_parameters()
        after()
        while given_trial(self.study) is None:
            # although another process may train it, which may be killed
            self.study.enqueue_trial(given, user_attrs={GIVEN: True})
            self._run_one()
            after()
        for start in starts:
            self.study.enqueue_trial(start, skip_if_exists=True)
        while time.monotonic() < end and (trials is None or len(finished(self.study)) < trials):
            if self._run_one():
                repeats = 0
                after()
            else:
                repeats += 1
            if repeats == MOST_REPEATS:
                logger.info(
                    "tune: the search ends, because all settings that are suggested were tried already"
                )
                return

    def _run_one(self) -> bool:
        """Run a trial; False if its settings were tried already."""
        trial, value, state = self.study.ask(), None, TrialState.FAIL
        is_given = GIVEN in trial.user_attrs
        try:
            settings = self.configs.suggest(trial)
            is_needed = is_given and given_trial(self.study) is None
            if not is_needed and any(trial.params == other.params for other in finished(self.study)):
                return False
            config = deepcopy(self.configs.config) if is_given else self.configs.compose(settings)
            value, state = self.evaluate(config, trial), TrialState.COMPLETE
            logger.info("trial %d: %.4f with %s", trial.number, value, settings)
        except TrialPruned:
            state = TrialState.PRUNED
        except Exception as error:
            if is_given or self.stop_on_error:
                raise
            logger.warning("trial %d failed with %s: %s", trial.number, trial.params, error)
            trial.set_user_attr(ERROR, str(error) or type(error).__name__)
            state = TrialState.PRUNED  # a bad trial, which the sampler avoids
        finally:  # also after a signal, so that no trial seems to run for ever
            self.study.tell(trial, value, state=state)
        return True
