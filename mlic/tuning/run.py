"""A search from a config to a folder: all trials, the run of the best trial, and that of the given config."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.pruners import NopPruner
from optuna.trial import FixedTrial, FrozenTrial

from mlic.command_line import program
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
from mlic.tuning.comparison import compare_with_given
from mlic.tuning.folds import make_folds
from mlic.tuning.heads import EPOCH, HeadTrials, last_epoch_counts, make_pruner
from mlic.tuning.results import write_experiment, write_figures, write_table
from mlic.tuning.runs import FOLDER, TRIALS, RunTrials
from mlic.tuning.study import Search, finished, given_trial, open_study
from mlic.tuning.trials import GIVEN, TrialConfigs

logger = logging.getLogger(__name__)

OVER = ("heads", "runs")
GIVEN_RUN = "defaults"  # folder of the run of the given config
SUMMARY = "summary.txt"
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
    _check(config)
    refuse_other_kind(config.output, "search")
    refuse_foreign_folder(config.output, kind="folder of a search")
    refuse_own_output("data.split.keep", config.data.split.get("keep"), config.output)
    configs, metric = TrialConfigs(config, choices, overrides), config.tune.metric
    checked = configs.check()
    start = time.perf_counter()
    settings = comparable_settings(config, without=OWN_SETTINGS)
    if config.tune.over == "heads":
        evaluate, settings["split"] = _prepare_heads(config, checked)
        pruner = make_pruner(config)
    else:
        # which images there are is known only in each run
        settings |= {f"data.{key}": config.data.get(key) for key in ("annotations", "images")}
        evaluate, pruner = RunTrials(config), NopPruner()
    seconds = {"features": round(time.perf_counter() - start, 3)}
    study = open_study(
        config.tune.study, config.tune.storage, seed=config.tune.seed, pruner=pruner, settings=settings
    )
    # all checks have passed: an earlier search may be removed
    folder = RunFolder(config.output)
    _clear(folder.path, keep_trials=bool(finished(study)))
    with RunStatus(folder, seconds=seconds) as status:
        with status.phase("search"):
            search = Search(study, configs, evaluate, stop_on_error=config.on_error == "stop")
            search.run(
                config.tune.trials, config.tune.minutes, lambda: write_table(folder.path, study, metric)
            )
        write_figures(folder.path, study, metric)
        return _finish(config, configs, study, folder.path, status)


def _check(config: DictConfig) -> None:
    tune, heads = config.tune, config.tune.over == "heads"
    check_choice("tune.over", tune.over, OVER)
    check_choice("tune.metric", tune.metric, METRICS)
    check_choice("on_error", config.on_error, ON_ERROR)
    check_seed("seed", config.seed)
    check_seed("tune.seed", tune.seed)
    limited = tune.trials is not None or tune.minutes is not None
    _require(limited, "tune.trials", "set this or tune.minutes, or the search would never end.")
    _require(
        tune.trials is None or tune.trials > 1,
        "tune.trials",
        "expected at least 2, the given config and one to compare it with.",
    )
    _require(config.resume is None, "resume", "remove it; a search with tune.storage goes on by itself.")
    num_devices = make_bare_trainer(with_processes(config)).world_size
    _require(num_devices == 1, "trainer.devices", "a search uses one device.")
    if not heads:
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
    runs = [folder / WINNER, folder / GIVEN_RUN, *([] if keep_trials else folder.glob(f"{TRIALS}/*"))]
    for run_folder in runs:
        if has_mark(run_folder):
            shutil.rmtree(run_folder)


def _prepare_heads(config: DictConfig, checked: Sequence[DictConfig]) -> tuple[HeadTrials, str]:
    """Read the data, and build the head of each of the checked configs; return the hash of the split too."""
    datamodule, backbone = prepare(config)
    folds = make_folds(datamodule, config.tune.folds)
    for own in (config, *checked):
        try:
            model = make_model(own, backbone, folds[0])
            if needs_epochs(model.head):
                model.make_optimizer()  # fails for a head without parameters, such as head=knn
        except (TypeError, ValueError) as error:
            raise InputError(f"tune.space: settings do not fit: {error}") from error
        if "val" not in folds[0].parts and needs_epochs(model.head):
            raise InputError(
                "tune selects on val, but data.split.val is 0: set it, or select by cross-validation with "
                "tune.folds=5.",
                key="data.split.val",
            )
    return HeadTrials(config, folds, backbone), datamodule.split_hash


def _finish(
    config: DictConfig, configs: TrialConfigs, study: Study, folder: Path, status: RunStatus
) -> Results:
    """Run the best trial and the given config, write the experiment config and the summary."""
    winner, given, number = study.best_trial, given_trial(study), len(finished(study))
    assert given is not None
    is_given = GIVEN in winner.user_attrs
    settings, own = ({}, config) if is_given else configs.draw(FixedTrial(winner.params))
    chosen = _final_config(config, own, winner)
    experiment = write_experiment(
        folder,
        chosen,
        {**configs.choices, **{key: value for key, value in settings.items() if key in configs.choices}},
        header=f"Found by mlic.tune: trial {winner.number}, {winner.params or 'as configured'}",
    )
    logger.info("trial %d, the best, is trained as an ordinary run, and tested:", winner.number)
    with status.phase("winner"):
        results = _run_finally(chosen, winner, folder / WINNER)
    summary = f"None of {number} trials is better than the given config, trial {given.number}."
    if not is_given:
        with status.phase("defaults"):
            _run_finally(_final_config(config, config, given), given, folder / GIVEN_RUN)
        summary = compare_with_given(
            folder / WINNER, folder / GIVEN_RUN, config.tune.metric, winner, given, number
        )
    write_atomically(folder / SUMMARY, f"{summary}\n")
    logger.info("%s", summary)
    logger.info("trials:     %s", folder / TRIALS_FILE)
    logger.info(
        "start here: %s -m mlic.train --config-dir %s experiment=%s",
        *(program("python"), folder, experiment.stem),
    )
    return results


def _final_config(config: DictConfig, own: DictConfig, trial: FrozenTrial) -> DictConfig:
    """Return the config of a final run: as selected and, after cross-validation, on the rows of all folds."""
    made, epoch = deepcopy(own), trial.user_attrs.get(EPOCH)
    OmegaConf.set_struct(made, False)
    del made.tune
    if epoch is not None and not last_epoch_counts(config):
        made.callbacks.checkpoint.monitor, made.callbacks.checkpoint.mode = f"val/{config.tune.metric}", "max"
    if config.tune.folds:
        made.data.split.val, made.callbacks.checkpoint.monitor = 0, None
        made.trainer.max_epochs = epoch or made.trainer.max_epochs
    return made


def _run_finally(config: DictConfig, trial: FrozenTrial, folder: Path) -> Results:
    """Run a config in a folder, or copy the run of its trial if there is one."""
    earlier = trial.user_attrs.get(FOLDER)
    if earlier is not None and (Path(earlier) / METRICS_FILE).is_file():
        shutil.copytree(earlier, folder, ignore=shutil.ignore_patterns(".lock"), dirs_exist_ok=True)
        return json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    config.output = str(folder)
    return run(config)
