"""A search from a config to a folder: all trials, the run of the best trial, and its experiment config."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from mlic.command_line import program
from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.features.source import available_memory
from mlic.models import AsymmetricLoss, Backbone, DenseHead, FocalLoss, Standardization, WeightedBCE
from mlic.runs.folder import (
    SETTINGS_FILE,
    STATUS_FILE,
    TRIALS_FILE,
    WINNER,
    RunFolder,
    has_mark,
    refuse_foreign_folder,
)
from mlic.runs.lock import one_at_a_time
from mlic.runs.status import RunStatus
from mlic.runs.system_errors import translated_errors
from mlic.seeds import check_seed
from mlic.training.run import Results, prepare, run
from mlic.training.starting_point import refuse_own_output
from mlic.training.weight_average import first_averaged_epoch
from mlic.tuning.bank import Member
from mlic.tuning.folds import Fold, make_folds
from mlic.tuning.halving import rungs
from mlic.tuning.results import write_experiment, write_trials
from mlic.tuning.search import Schedule, Search
from mlic.tuning.trials import Trial, make_trials

logger = logging.getLogger(__name__)

SEARCH_FILES = (STATUS_FILE, TRIALS_FILE, "figures/trials.*", "experiment/tuned.yaml")
ADAM_COPIES = 4  # weights, gradients and two moments
STACKED = {"head": (DenseHead,), "loss": (WeightedBCE, FocalLoss, AsymmetricLoss)}
# Settings of the trainer that only affect the run of the best trial, with their neutral values.
NOT_OF_TRIALS = {
    "accumulate_grad_batches": 1, "gradient_clip_val": None, "limit_train_batches": 1.0, "max_steps": -1,
    "max_time": None, "overfit_batches": 0.0,
}  # fmt: skip


@translated_errors()
@one_at_a_time
def run_tuning(config: DictConfig, choices: Mapping[str, str | None]) -> Results:
    """Run a search, then train the best trial as an ordinary run in `<output>/winner`, and test it once.

    Args:
        config: config composed from `conf/tune.yaml`.
        choices: choices by config group, for the experiment config of the best trial.

    Returns:
        The metrics of the best trial, as returned by `mlic.training.run.run`.

    Raises:
        InputError: data, weights, settings or the search space cannot be used.
    """
    _check(config)
    _check_output(Path(config.output))
    refuse_own_output("data.split.keep", config.data.split.get("keep"), config.output)
    trials, dimensions = make_trials(config, choices)
    for trial in trials:
        _check_classes(trial.config)
    start = time.perf_counter()
    datamodule, backbone, device = prepare(config)
    seconds = {"features": round(time.perf_counter() - start, 3)}
    search = _make_search(config, trials, datamodule, backbone, device)
    # all checks have passed: an earlier search may be removed
    folder = RunFolder(config.output)
    _clear(folder)
    with RunStatus(folder, seconds=seconds) as status:
        with status.phase("search"):
            try:
                winner = search.run()
            finally:
                write_trials(folder.path, trials, dimensions, search.schedule)
        chosen = _winning_config(config, winner)
        experiment = write_experiment(folder.path, chosen, _choices_of(winner, choices), winner)
        with status.phase("winner"):
            results = run(chosen)
    logger.info("trials:     %s", folder.path / TRIALS_FILE)
    logger.info(
        "start here: %s -m mlic.train --config-dir %s experiment=%s",
        *(program("python"), folder.path, experiment.stem),
    )
    return results


def _check(config: DictConfig) -> None:
    if config.features.mode != "cached":
        raise InputError(
            "mlic.tune requires features=cached, because all heads are trained on the same features."
        )
    if config.init_from is not None:
        raise InputError("init_from: not supported by mlic.tune, which always trains new heads.")
    for key, seed in (("seed", config.seed), ("tune.seed", config.tune.seed)):
        check_seed(key, seed)
    if "early_stopping" in (config.callbacks or {}):
        raise InputError("callbacks=early_stopping: mlic.tune stops heads early by tune.halving instead.")
    if config.resume is not None:
        raise InputError(
            f"resume={config.resume}: mlic.tune always starts from the beginning, with stored features. Remove resume; "
            "for searches that can be resumed see hydra/sweeper=search."
        )
    for key, without in NOT_OF_TRIALS.items():
        value = config.trainer.get(key)
        if value not in (None, without):
            raise InputError(
                f"trainer.{key}={value}: the heads of a search are trained without it, so that the final run would "
                "differ from the selected trial. Remove it, or vary whole runs with hydra/sweeper=search."
            )


def _check_output(folder: Path) -> None:
    """Check that the output folder is empty or an earlier search."""
    if (folder / SETTINGS_FILE).exists():
        raise InputError(
            f"output: '{folder}' is the folder of a run, not of a search. Choose another output."
        )
    refuse_foreign_folder(folder, kind="folder of a search")


def _clear(folder: RunFolder) -> None:
    # an interrupted search must not show the best run of an earlier one
    for pattern in SEARCH_FILES:
        for path in folder.path.glob(pattern):
            path.unlink()
    if has_mark(folder.path / WINNER):
        shutil.rmtree(folder.path / WINNER)


def _check_classes(config: DictConfig) -> None:
    # exact classes only: of a subclass, the stacks would take its own options from one trial
    for part, known in STACKED.items():
        name = config[part]["_target_"]
        if get_object(name) not in known:
            raise InputError(
                f"{part}: mlic.tune supports only {', '.join(own.__name__ for own in known)}, not {name}. Vary it "
                "with hydra/sweeper=search."
            )


def _make_search(
    config: DictConfig,
    trials: Sequence[Trial],
    datamodule: MultiLabelDataModule,
    backbone: Backbone,
    device: torch.device,
) -> Search:
    schedule = _schedule(config)
    folds = make_folds(datamodule, config.tune.folds)
    members: list[Member] = []
    for trial in trials:
        members.append(_make_member(trial, folds, datamodule, backbone, device))
        _check_memory(members, len(trials))
    return Search(trials, members, datamodule, folds, schedule)


def _check_memory(members: Sequence[Member], number: int) -> None:
    # refuse too many heads before the machine swaps
    size = sum(parameter.nbytes for head in members[-1].heads for parameter in head.parameters())
    needed, free = number * size * ADAM_COPIES / 1e9, available_memory() / 1e9
    if len(members) == 1 and needed > free:
        raise InputError(
            f"tune.heads={number}: this number of heads requires {needed:.1f} GB with their optimizers, "
            f"but only {free:.1f} GB are free. Lower it, or pool the features with model.backbone.pool=avg."
        )


def _schedule(config: DictConfig) -> Schedule:
    halving, average = config.tune.halving, (config.callbacks or {}).get("weight_average")
    epochs = config.trainer.max_epochs
    return Schedule(
        max_epochs=epochs,
        rungs=rungs(epochs, first=halving.first, eta=halving.eta) if halving else [],
        eta=halving.eta if halving else 1,
        metric=config.tune.metric,
        last_epoch_counts=_last_epoch_counts(config),
        average_from=first_averaged_epoch(average.share, epochs) if average else None,
        seed=config.seed,
    )


def _last_epoch_counts(config: DictConfig) -> bool:
    """True without a checkpoint selected on val; with folds, also if the course of a run depends on its length."""
    if config.callbacks.checkpoint.monitor is None:
        return True
    shaped = config.get("scheduler") is not None or "weight_average" in config.callbacks
    return bool(config.tune.folds) and shaped


def _make_member(
    trial: Trial,
    folds: Sequence[Fold],
    datamodule: MultiLabelDataModule,
    backbone: Backbone,
    device: torch.device,
) -> Member:
    config, num_classes = trial.config, len(datamodule.table.classes)
    try:
        heads = [_make_head(config, backbone, num_classes, fold, device) for fold in folds]
        losses = [instantiate(config.loss)(fold.class_weights) for fold in folds]
        steps = [
            len(datamodule.loader_of(fold.train, training=True)) * config.trainer.max_epochs for fold in folds
        ]
        return Member.build(
            heads, losses, instantiate(config.optimizer), instantiate(config.get("scheduler")), steps
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"tune.space: the settings {trial.settings} do not fit: {error}") from error


def _make_head(
    config: DictConfig, backbone: Backbone, num_classes: int, fold: Fold, device: torch.device
) -> DenseHead:
    L.seed_everything(config.seed, workers=True, verbose=False)  # as a run does before it creates its head
    head: DenseHead = instantiate(config.head)(backbone.feature_shape, num_classes)
    for layer in head:
        if isinstance(layer, Standardization):
            layer.load_state_dict(fold.standardization.state_dict())
    return head.to(device)


def _winning_config(config: DictConfig, winner: Trial) -> DictConfig:
    """Return the config of the final run: as selected and, after cross-validation, on the rows of all folds."""
    last = _last_epoch_counts(config)
    chosen = winner.config
    chosen.output = str(Path(config.output) / WINNER)
    if not last:
        chosen.callbacks.checkpoint.monitor = f"val/{config.tune.metric}"
        chosen.callbacks.checkpoint.mode = "max"
    if config.tune.folds:
        chosen.data.split.val = 0
        chosen.callbacks.checkpoint.monitor = None
        chosen.trainer.max_epochs = winner.best_epoch(last=last) + 1
    del chosen.tune
    return chosen


def _choices_of(winner: Trial, choices: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the choices of the command line, with those of the best trial for groups in the search space."""
    return {**choices, **{key: value for key, value in winner.settings.items() if "." not in key}}
