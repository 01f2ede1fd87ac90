"""Tuning from a config to a folder: the trials, the winner's run, and how to go on from it."""

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
from mlic.features.memory import available_memory
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
from mlic.training.weight_average import first_averaged_epoch
from mlic.tuning.bank import Member
from mlic.tuning.folds import Fold, make_folds
from mlic.tuning.halving import rungs
from mlic.tuning.results import write_experiment, write_trials
from mlic.tuning.search import Schedule, Search
from mlic.tuning.trials import Trial, make_trials

logger = logging.getLogger(__name__)

SEARCH_FILES = (STATUS_FILE, TRIALS_FILE, "figures/trials.*", "experiment/tuned.yaml")
ADAM_COPIES = 4  # weights, gradients, two moments
STACKED = {"head": (DenseHead,), "loss": (WeightedBCE, FocalLoss, AsymmetricLoss)}
# of the trainer, which trains the winner alone, with the values that change nothing
NOT_OF_TRIALS = {
    "accumulate_grad_batches": 1, "gradient_clip_val": None, "limit_train_batches": 1.0, "max_steps": -1,
    "max_time": None, "overfit_batches": 0.0,
}  # fmt: skip


@translated_errors()
@one_at_a_time
def run_tuning(config: DictConfig, choices: Mapping[str, str | None]) -> Results:
    """Search, then train the winner as an ordinary run in `<output>/winner`, and test it once.

    Args:
        config: as `conf/tune.yaml` composes it.
        choices: config group -> choice, for the file that starts a run from the winner.

    Returns:
        The winner's metrics, as `mlic.training.run.run` returns them.

    Raises:
        InputError: data, weights, settings or a search space that cannot be used.
    """
    _check(config)
    _check_output(Path(config.output))
    trials, dimensions = make_trials(config, choices)
    for trial in trials:
        _check_classes(trial.config)
    start = time.perf_counter()
    datamodule, backbone, device = prepare(config)
    seconds = {"features": round(time.perf_counter() - start, 3)}
    search = _make_search(config, trials, datamodule, backbone, device)
    # what can be checked was checked: an earlier search may go
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
        raise InputError("mlic.tune trains many heads on the same features: it needs features=cached.")
    if config.init_from is not None:
        raise InputError("init_from: mlic.tune trains heads from the beginning.")
    for key, seed in (("seed", config.seed), ("tune.seed", config.tune.seed)):
        check_seed(key, seed)
    if "early_stopping" in (config.callbacks or {}):
        raise InputError("callbacks=early_stopping: mlic.tune stops hopeless heads by tune.halving instead.")
    if config.resume is not None:
        raise InputError(
            f"resume={config.resume}: mlic.tune begins anew each time, on features that are kept. Leave resume out; "
            "for searches that go on later see hydra/sweeper=search."
        )
    for key, without in NOT_OF_TRIALS.items():
        value = config.trainer.get(key)
        if value not in (None, without):
            raise InputError(
                f"trainer.{key}={value}: the heads of a search train without it, and the winner would not be what was "
                "chosen. Leave it out, or vary whole runs with hydra/sweeper=search."
            )


def _check_output(folder: Path) -> None:
    """Refuse to replace anything but an earlier search."""
    if (folder / SETTINGS_FILE).exists():
        raise InputError(
            f"output: '{folder}' is the folder of a run and not of a search. Choose another output."
        )
    refuse_foreign_folder(folder, kind="folder of a search")


def _clear(folder: RunFolder) -> None:
    """Remove what an earlier search left, so that its winner is not taken for that of a search which is interrupted."""
    for pattern in SEARCH_FILES:
        for path in folder.path.glob(pattern):
            path.unlink()
    if has_mark(folder.path / WINNER):
        shutil.rmtree(folder.path / WINNER)


def _check_classes(config: DictConfig) -> None:
    """Refuse what the stacks were not made for: of a subclass too, they would take its own options from one trial."""
    for part, known in STACKED.items():
        name = config[part]["_target_"]
        if get_object(name) not in known:
            raise InputError(
                f"{part}: mlic.tune stacks {', '.join(own.__name__ for own in known)} only, not {name}. Vary that one "
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
    folds = make_folds(datamodule, config.tune.folds, schedule.views)
    members: list[Member] = []
    for trial in trials:
        members.append(_make_member(trial, folds, datamodule, backbone, device))
        _check_memory(members, len(trials))
    return Search(trials, members, datamodule, folds, schedule)


def _check_memory(members: Sequence[Member], number: int) -> None:
    """Refuse what does not fit, before the machine swaps."""
    size = sum(parameter.nbytes for head in members[-1].heads for parameter in head.parameters())
    needed, free = number * size * ADAM_COPIES / 1e9, available_memory() / 1e9
    if len(members) == 1 and needed > free:
        raise InputError(
            f"tune.heads={number}: so many heads like the configured one take {needed:.1f} GB with their optimizers, "
            f"and {free:.1f} GB are free. Try fewer, or pool the features with model.backbone.pool=avg."
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
        views=config.features.views,
        seed=config.seed,
    )


def _last_epoch_counts(config: DictConfig) -> bool:
    """Without a checkpoint that is chosen on val; in folds, also where the length of the run shapes its course."""
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
    L.seed_everything(config.seed, workers=True, verbose=False)  # as a run does before it makes its head
    head: DenseHead = instantiate(config.head)(backbone.feature_shape, num_classes)
    for layer in head:
        if isinstance(layer, Standardization):
            layer.load_state_dict(fold.standardization.state_dict())
    return head.to(device)


def _winning_config(config: DictConfig, winner: Trial) -> DictConfig:
    """Of the run that shows the winner: as it was chosen, and after folds on all rows that the folds were of."""
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
    """Those of the command line, but for the groups that the trials chose from."""
    return {**choices, **{key: value for key, value in winner.settings.items() if "." not in key}}
