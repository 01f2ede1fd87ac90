"""A search from a config to a folder: all trials, the run of the best trial, and that of the given config."""

import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.trial import FixedTrial, FrozenTrial

from mlic.command_line import python
from mlic.errors import InputError, check_choice
from mlic.evaluation.metrics import METRICS
from mlic.runs.folder import (
    METRICS_FILE,
    STATUS_FILE,
    TRIALS_FILE,
    WINNER,
    RunFolder,
    has_mark,
    refuse_foreign_folder,
    refuse_other_kind,
    write_atomically,
)
from mlic.runs.lock import one_at_a_time
from mlic.runs.status import RunStatus
from mlic.runs.system_errors import translated_errors
from mlic.seeds import check_seed
from mlic.sweeps.job import ON_ERROR
from mlic.training.closed_form import needs_epochs
from mlic.training.devices import with_processes
from mlic.training.resuming import comparable_settings
from mlic.training.run import Results, make_model, prepare, run
from mlic.training.starting_point import refuse_own_output
from mlic.training.trainer import make_bare_trainer, quieten_lightning
from mlic.training.trial import check_trial
from mlic.tuning import evaluation, results
from mlic.tuning.study import Search, finished, given_trial, open_study
from mlic.tuning.trials import GIVEN, TrialConfigs

logger = logging.getLogger(__name__)

GIVEN_RUN, SUMMARY = "defaults", "summary.txt"  # folder of the run of the given config
SEARCH_FILES = (STATUS_FILE, TRIALS_FILE, SUMMARY, "figures/*.png", "experiment/tuned.yaml")
# settings of the search that may differ between the processes of a study
OWN_SETTINGS = ("tune.trials", "tune.minutes", "tune.storage", "tune.study", "tune.seed")


@translated_errors()
@one_at_a_time
def run_tuning(
    config: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str] = ()
) -> Results:
    """Run a search, then train and test the best trial and the given config as ordinary runs.

    Args:
        config: config composed from `conf/tune.yaml`; the runs are in `winner` and `defaults` of `config.output`.
        choices: choices by config group.
        overrides: overrides from which the config was composed.

    Returns:
        The metrics of the best trial, as returned by `mlic.training.run.run`.

    Raises:
        InputError: data, weights, settings or the search space cannot be used.
    """
    quieten_lightning()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of settings of the sampler
    _check(config)
    refuse_other_kind(config.output, "search")
    refuse_foreign_folder(config.output, kind="folder of a search")
    refuse_own_output("data.split.keep", config.data.split.get("keep"), config.output)
    configs, metric = TrialConfigs(config, choices, overrides), config.tune.metric
    configs.check()
    start = time.perf_counter()
    settings = comparable_settings(config, without=OWN_SETTINGS)
    if config.tune.over == "heads":
        evaluate, settings["split"] = _prepare_heads(config)
        pruner = evaluation.make_pruner(config)
    else:
        # which images there are is known only in each run
        settings |= {f"data.{key}": config.data.get(key) for key in ("annotations", "images")}
        evaluate, pruner = evaluation.evaluate_run, NopPruner()
    seconds = {"features": round(time.perf_counter() - start, 3)}
    study = open_study(config.tune, pruner, settings)
    # all checks have passed: an earlier search may be removed
    folder = RunFolder(config.output)
    _clear(folder.path, keep_trials=bool(finished(study)))
    with RunStatus(folder, seconds=seconds) as status:
        with status.phase("search"):
            search = Search(study, configs, evaluate, stop_on_error=config.on_error == "stop")
            search.run(lambda: results.write_table(folder.path, study, metric))
            results.write_figures(folder.path, study, metric)
        return _finish(configs, study, folder.path, status)


def _check(config: DictConfig) -> None:
    tune = config.tune
    check_choice("tune.over", tune.over, ("heads", "runs"))
    check_choice("tune.metric", tune.metric, METRICS)
    check_choice("on_error", config.on_error, ON_ERROR)
    check_seed("seed", config.seed)
    check_seed("tune.seed", tune.seed)
    _require(tune.trials is not None or tune.minutes is not None, "tune.trials", "set this or tune.minutes.")
    _require(tune.trials is None or tune.trials > 1, "tune.trials", "expected at least 2.")
    _require(config.resume is None, "resume", "remove it; a search with tune.storage goes on by itself.")
    num_devices = make_bare_trainer(with_processes(config)).world_size
    _require(num_devices == 1, "trainer.devices", "a search uses one device.")
    if tune.over == "runs":
        _require(tune.folds is None, "tune.folds", "tune.over=runs selects on val. Remove it.")
        return
    _require(config.features.mode == "cached", "features.mode", "set features=cached, or tune.over=runs.")
    _require(config.init_from is None, "init_from", "tune.over=heads trains new heads. Remove it.")
    check_trial(config)


def _require(holds: bool, key: str, message: str) -> None:
    if not holds:
        raise InputError(f"{key}: {message}", key=key)


def _clear(folder: Path, *, keep_trials: bool) -> None:
    # an interrupted search must not show the best run of an earlier one
    for pattern in SEARCH_FILES:
        for path in folder.glob(pattern):
            path.unlink()
    trials = [] if keep_trials else folder.glob(f"{evaluation.TRIALS}/*")
    for run_folder in (folder / WINNER, folder / GIVEN_RUN, *trials):
        if has_mark(run_folder):
            shutil.rmtree(run_folder)


def _prepare_heads(config: DictConfig) -> tuple[evaluation.HeadTrials, str]:
    """Read the data, and build the head of the given config; return the hash of the split too."""
    datamodule, backbone = prepare(config)
    folds = evaluation.make_folds(datamodule, config.tune.folds)
    model = make_model(config, backbone, folds[0])
    if needs_epochs(model.head):
        model.make_optimizer()  # fails for an invalid setting
        _require(
            "val" in folds[0].parts,
            "data.split.val",
            "tune selects on val, which is empty: set this, or select by cross-validation with tune.folds=5.",
        )
    return evaluation.HeadTrials(folds, backbone), datamodule.split_hash


def _finish(configs: TrialConfigs, study: optuna.Study, folder: Path, status: RunStatus) -> Results:
    """Run the best trial and the given config, write the experiment config and the summary."""
    winner, given, number = study.best_trial, given_trial(study), len(finished(study))
    assert given is not None
    is_given = GIVEN in winner.user_attrs
    settings = {} if is_given else configs.suggest(FixedTrial(winner.params))
    own = configs.config if is_given else configs.compose(settings)
    choices = {**configs.choices, **{key: value for key, value in settings.items() if key in configs.choices}}
    header = f"Found by mlic.tune: trial {winner.number}, {winner.params or 'as configured'}"
    results.write_experiment(folder, _final_config(own, winner), choices, header=header)
    logger.info("trial %d, the best, is trained as an ordinary run, and tested:", winner.number)
    with status.phase("winner"):
        metrics = _run_finally(own, winner, folder / WINNER)
    summary = f"None of {number} trials is better than the given config, trial {given.number}."
    if not is_given:
        with status.phase("defaults"):
            _run_finally(configs.config, given, folder / GIVEN_RUN)
        runs = (RunFolder(folder / WINNER), RunFolder(folder / GIVEN_RUN))
        summary = results.compare(runs, configs.config.tune.metric, (winner, given), number)
    write_atomically(folder / SUMMARY, f"{summary}\n")
    again = f"{python()} -m mlic.train --config-dir {folder} experiment=tuned"
    logger.info("%s\ntrials:     %s\nstart here: %s", summary, folder / TRIALS_FILE, again)
    return metrics


def _final_config(own: DictConfig, trial: FrozenTrial) -> DictConfig:
    """Return the config of a final run: as selected and, after cross-validation, on the rows of all folds."""
    made, epoch = deepcopy(own), trial.user_attrs.get(evaluation.EPOCH)
    OmegaConf.set_struct(made, False)
    del made.tune
    if epoch is not None and not evaluation.last_epoch_counts(own):
        made.callbacks.checkpoint.monitor, made.callbacks.checkpoint.mode = f"val/{own.tune.metric}", "max"
    if own.tune.folds:
        made.data.split.val, made.callbacks.checkpoint.monitor = 0, None
        made.trainer.max_epochs = epoch
    return made


def _run_finally(own: DictConfig, trial: FrozenTrial, folder: Path) -> Results:
    """Run a config in a folder, or copy the run of its trial if there is one."""
    earlier = trial.user_attrs.get(evaluation.FOLDER)
    if earlier is not None and (Path(earlier) / METRICS_FILE).is_file():
        shutil.copytree(earlier, folder, ignore=shutil.ignore_patterns(".lock"), dirs_exist_ok=True)
        return json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    config = _final_config(own, trial)
    config.output = str(folder)
    return run(config)
