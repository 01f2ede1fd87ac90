"""The Lightning trainer of a run, with its callbacks, loggers and checkpoint selection."""

import logging
import warnings
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import get_class, instantiate
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter

from mlic.errors import InputError
from mlic.evaluation.metrics import METRICS
from mlic.inference.checkpoint import load_checkpoint
from mlic.runs.processes import cluster_environment
from mlic.runs.trainer_signals import OwnSignals
from mlic.training.resuming import EarlierRun

OURS = ("mlic.", "lightning.")
MONITORED_PARTS, MONITORED = ("train", "val"), ("loss", *METRICS)


def quieten_lightning() -> None:
    """Suppress messages that the user cannot act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # by design: features are in memory, and small data sets have few steps
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*number of training batches.*is smaller than the logging interval.*")
    # the frozen backbone is in eval mode
    warnings.filterwarnings("ignore", ".*module\\(s\\) in eval mode at the start of training.*")
    # the run folder exists before, and a resumed run continues in it
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")
    # a single process does not need srun, not even on the login node of a cluster
    warnings.filterwarnings("ignore", ".*`srun` command is available.*")
    # about the use of torch by Lightning itself
    warnings.filterwarnings("ignore", ".*LeafSpec.*", module="lightning")


def make_trainer(config: DictConfig, earlier: EarlierRun) -> L.Trainer:
    """Create the trainer with its callbacks and loggers; curves continue at the step of the earlier run.

    Raises:
        InputError: there are no epochs to train, or a callback monitors an unknown metric.
    """
    callbacks = [instantiate(entry) for entry in _entries(config, "callbacks")]
    loggers = [_make_logger(entry, earlier) for entry in _entries(config, "logger")]
    _check_monitors(callbacks)
    trainer = _build(config, callbacks=[*callbacks, OwnSignals()], logger=loggers)
    if str(config.trainer.get("precision")) in ("16-true", "bf16-true"):
        raise InputError(
            f"trainer.precision={config.trainer.precision}: weights of heads stay in float32. Set 32-true, or "
            "bf16-mixed or 16-mixed for mixed precision.",
            key="trainer.precision",
        )
    if not isinstance(trainer.max_epochs, int) or trainer.max_epochs == 0:
        raise InputError(f"trainer.max_epochs={trainer.max_epochs}: expected a whole number of at least 1.")
    if earlier.checkpoint is not None:
        _keep_stopped(trainer, earlier.checkpoint)
    return trainer


def _entries(config: DictConfig, group: str) -> list[DictConfig]:
    # null removes one of them, or all
    return [entry for entry in (config.get(group) or {}).values() if entry is not None]


def _keep_stopped(trainer: L.Trainer, checkpoint: Path) -> None:
    """Do not train further epochs if early stopping had stopped the earlier run, which ended during its test.

    Lightning restores the counter of the callback, but not that it had stopped the trainer.
    """
    for name, state in load_checkpoint(checkpoint, mmap=True).get("callbacks", {}).items():
        if name.startswith(EarlyStopping.__name__) and state.get("stopped_epoch"):
            trainer.fit_loop.max_epochs = state["stopped_epoch"] + 1


def _check_monitors(callbacks: Sequence[L.Callback]) -> None:
    # Lightning checks only after the first epoch. Callbacks of the user may log other metrics, which are allowed.
    if not all(type(callback).__module__.startswith(OURS) for callback in callbacks):
        return
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        part, _, metric = str(monitor).partition("/")
        if monitor is not None and (part not in MONITORED_PARTS or metric not in MONITORED):
            raise InputError(
                f"callbacks: {type(callback).__name__} monitors '{monitor}', which is not a metric. Expected val/ or "
                f"train/ and one of {', '.join(MONITORED)}."
            )


def make_bare_trainer(config: DictConfig) -> L.Trainer:
    """Create a trainer without callbacks and loggers, for its choice of device."""
    return _build(config, logger=False, enable_checkpointing=False)


def _build(config: DictConfig, **parts: Any) -> L.Trainer:
    plugins = [instantiate(plugin) for plugin in config.trainer.get("plugins") or []]
    environment = cluster_environment()
    return instantiate(config.trainer, plugins=plugins + ([environment] if environment else []), **parts)


def _make_logger(entry: DictConfig, earlier: EarlierRun) -> Logger:
    if not issubclass(get_class(entry["_target_"]), TensorBoardLogger):
        return instantiate(entry)
    # it passes unknown options to its writer, which is created when the first value is logged
    known = signature(TensorBoardLogger).parameters.keys() | signature(SummaryWriter).parameters.keys()
    if unknown := [str(name) for name in entry if name not in known and not str(name).startswith("_")]:
        raise InputError(f"logger.tensorboard: unknown options {', '.join(unknown)}.")
    # steps after the checkpoint are repeated
    return instantiate(entry, purge_step=earlier.step + 1 if earlier.checkpoint is not None else None)


def prepare_checkpoints(trainer: L.Trainer, *, has_val: bool) -> None:
    """Create the folders of checkpoints; without a val part, keep the last epoch instead of selecting one.

    Lightning would create the folders only after an earlier run was removed.

    Raises:
        InputError: early stopping is used without a val part.
        OSError: a folder cannot be created.
    """
    if not has_val:
        trainer.limit_val_batches = 0
        if trainer.early_stopping_callbacks:
            raise InputError("callbacks=early_stopping monitors the val part, but data.split.val is 0.")
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        if not has_val:
            callback.monitor = None
        if callback.dirpath is not None:
            Path(callback.dirpath).mkdir(parents=True, exist_ok=True)


def best_checkpoint(trainer: L.Trainer) -> str | None:
    """Return the checkpoint of the epoch selected on val; None if the run has no checkpoints."""
    checkpoint = trainer.checkpoint_callback
    return (checkpoint.best_model_path or None) if isinstance(checkpoint, ModelCheckpoint) else None
