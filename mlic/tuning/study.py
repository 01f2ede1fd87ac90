"""The Optuna study of a search: its storage, and the loop over its trials."""

import logging
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna import Study, Trial, TrialPruned
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mlic.errors import InputError
from mlic.tuning.trials import GIVEN, TrialConfigs

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
SETTINGS, ERROR = "settings", "error"  # attributes of the study, and of failed trials
MOST_REPEATS = 20

Evaluate = Callable[[DictConfig, Trial], float]


def open_study(
    name: str, storage: str | None, *, seed: int, pruner: BasePruner, settings: Mapping[str, Any]
) -> Study:
    """Create a study, or join the one of this name in the storage.

    Args:
        name: name of the study.
        storage: `sqlite:///<file>`, or the path of a journal file; None for memory.
        seed: seed of the sampler; a process that joins a study draws its own numbers.
        pruner: pruner of the study.
        settings: all settings that affect results, which must be the same in all processes.

    Raises:
        InputError: the storage cannot be used, or has a study of this name with other settings.
    """
    sampler, opened = TPESampler(seed=seed), _open_storage(storage)
    try:
        study = optuna.create_study(
            storage=opened, study_name=name, sampler=sampler, pruner=pruner, direction="maximize"
        )
        study.set_user_attr(SETTINGS, dict(settings))
        return study
    except DuplicatedStudyError:
        study = optuna.load_study(storage=opened, study_name=name, sampler=sampler, pruner=pruner)
    there = study.user_attrs.get(SETTINGS, settings)
    keys = sorted(key for key in there.keys() | settings.keys() if there.get(key) != settings.get(key))
    if keys:
        shown = "; ".join(f"{key}: {there.get(key)} there, {settings.get(key)} here" for key in keys[:10])
        raise InputError(
            f"tune.study={name}: '{storage}' has a study of this name with other settings ({shown}). Use the same "
            "settings, or another name.",
            key="tune.study",
        )
    sampler.reseed_rng()  # with the same seed, it would suggest the same settings again
    logger.info("tune: the study '%s' has %d finished trials", name, len(finished(study)))
    return study


def _open_storage(storage: str | None) -> BaseStorage:
    if storage is None:
        return InMemoryStorage()
    path = Path(storage.removeprefix(SQLITE))
    try:
        if "://" in storage.removeprefix(SQLITE):
            raise ValueError(f"expected {SQLITE}<file> or the path of a journal file")
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = (
            RDBStorage(storage) if storage.startswith(SQLITE) else JournalStorage(JournalFileBackend(storage))
        )
        opened.get_all_studies()
        return opened
    except Exception as error:  # of the database or the file system, or a file with something else
        raise InputError(f"tune.storage={storage}: {error}.", key="tune.storage") from error


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that count: complete, pruned and failed ones, but no interrupted ones."""
    return study.get_trials(states=FINISHED)


def given_trial(study: Study) -> FrozenTrial | None:
    """Return the complete trial of the given config; None if there is none."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    return next((trial for trial in complete if GIVEN in trial.user_attrs), None)


class Search:
    """Runs trials of a study, first that of the given config."""

    def __init__(
        self, study: Study, configs: TrialConfigs, evaluate: Evaluate, *, stop_on_error: bool = False
    ) -> None:
        """Create a search.

        Args:
            study: result of `open_study`.
            configs: configs of the trials.
            evaluate: trains a trial and returns its value; may raise `TrialPruned`.
            stop_on_error: raise the first error of a trial, instead of recording it as a bad trial.
        """
        self.study, self.configs = study, configs
        self.evaluate, self.stop_on_error = evaluate, stop_on_error

    def run(self, trials: int | None, minutes: float | None, after: Callable[[], object]) -> None:
        """Run trials until the budget is spent.

        Args:
            trials: number of trials of the study, including those of other processes; None for no limit.
            minutes: no trial begins after this time; None for no limit.
            after: called at the beginning and after each trial.

        Raises:
            InputError: the given config cannot be trained.
        """
        if not any(
            GIVEN in trial.user_attrs and trial.state != TrialState.FAIL for trial in self.study.trials
        ):
            self._enqueue_given()
        after()
        end, repeats = time.monotonic() + 60 * (inf if minutes is None else minutes), 0
        while time.monotonic() < end and (trials is None or len(finished(self.study)) < trials):
            repeats = 0 if self._run_one() else repeats + 1
            after()
            if repeats == MOST_REPEATS:
                logger.info(
                    "tune: the sampler suggests only settings that were tried already, so the search ends"
                )
                break
        while (
            given_trial(self.study) is None
        ):  # no time was left, or a process was killed while it trained it
            self._enqueue_given()
            self._run_one()
            after()

    def _enqueue_given(self) -> None:
        self.study.enqueue_trial(self.configs.given_parameters(), user_attrs={GIVEN: True})

    def _run_one(self) -> bool:
        """Run a trial; False if its settings were tried already."""
        trial, value, state = self.study.ask(), None, TrialState.FAIL
        is_given = GIVEN in trial.user_attrs
        try:
            settings, config = self.configs.draw(trial)
            if not is_given and any(trial.params == other.params for other in finished(self.study)):
                return False
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
