"""Time of an epoch of head training with Lightning, compared with a bare PyTorch loop."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from benchmarks.bare import BareTraining
from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.config import compose
from mlic.data import MultiLabelDataModule
from mlic.evaluation.metrics import evaluate_scores
from mlic.features.dataset import FeatureDataset, MemoryRows
from mlic.features.source import CachedFeatures
from mlic.models import MultiLabelClassifier
from mlic.training.devices import head_threads

FEATURES = 1280  # of efficientnet_lite2, averaged
WARM_UP_EPOCHS = 2


class MadeFeatures(CachedFeatures):
    """Random features instead of extracted ones; their values do not affect the time."""

    def __init__(self, folder: Path) -> None:
        """Create the source; nothing is written to `folder`."""
        super().__init__(cast(Any, SimpleNamespace(members=())), directory=folder)

    def extract(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Do nothing; all images are good."""
        return {}

    def dataset(self, paths: Sequence[Path], targets: np.ndarray) -> FeatureDataset:
        """Return float16 features in memory that depend on the labels, so that checkpoints improve."""
        signal = torch.as_tensor(targets) @ torch.randn(targets.shape[1], FEATURES)
        self.features = (torch.randn(len(paths), FEATURES) + 0.2 * signal).half()
        self._served = FeatureDataset(MemoryRows(self.features), targets)
        return self._served


class WithoutMetrics(MultiLabelClassifier):
    """Trains and scores as usual, but computes no metrics."""

    def _log_epoch(self, part: str, collector: Any) -> None:
        collector.reset()


class TakeTurns(L.Callback):
    """Runs a bare epoch before each epoch of the trainer, and measures both.

    Attributes:
        bare: seconds of each bare epoch.
        trained: seconds of each epoch of the trainer, including loaders, validation, metrics, callbacks and loggers.
    """

    def __init__(self, bare_epoch: Callable[[], object], bare_threads: int | None) -> None:
        """Run `bare_epoch` on `bare_threads` threads; None for as many as the trainer."""
        self.bare_epoch, self.bare_threads = bare_epoch, bare_threads
        self.bare: list[float] = []
        self.trained: list[float] = []
        self._resumed: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the previous epoch."""
        self._note_epoch()
        threads = torch.get_num_threads()
        torch.set_num_threads(self.bare_threads or threads)
        start = time.perf_counter()
        self.bare_epoch()
        self.bare.append(time.perf_counter() - start)
        torch.set_num_threads(threads)
        self._resumed = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the last epoch."""
        self._note_epoch()

    def _note_epoch(self) -> None:
        if self._resumed is not None:
            self.trained.append(time.perf_counter() - self._resumed)


class BareEpoch:
    """An epoch in a bare loop, followed by metrics of train and val and checkpoints as in a run.

    Attributes:
        metric_seconds: seconds of the metrics of each epoch.
    """

    def __init__(self, training: BareTraining, folder: Path, *, with_metrics: bool) -> None:
        """Write checkpoints to `folder`; without metrics there are no checkpoints."""
        self.training, self.folder, self.with_metrics = training, folder, with_metrics
        self.classes = [str(number) for number in range(training.targets.shape[1])]
        self.best = -1.0
        self.metric_seconds: list[float] = []

    def __call__(self) -> None:
        """Train an epoch, score val, and compute metrics and checkpoints."""
        parts = self.training.epoch()
        if not self.with_metrics:
            return
        start = time.perf_counter()
        metrics = [
            evaluate_scores(torch.sigmoid(logits).numpy(), targets.numpy(), self.classes)
            for logits, targets in parts
        ]
        self.metric_seconds.append(time.perf_counter() - start)
        state = {
            "head": self.training.head.state_dict(),
            "optimizer": self.training.optimizer.state_dict(),
        }
        last = self.folder / "bare_last.ckpt"
        with last.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # as in a run, which must survive a power loss
        if metrics[1]["map"] > self.best:
            self.best = metrics[1]["map"]
            shutil.copyfile(last, self.folder / "bare_best.ckpt")


def head_training(setting: Setting) -> list[Row]:
    """Compare an epoch of a run with a loop that does the same work, then Lightning alone."""
    run = _compare(setting, MultiLabelClassifier, as_in_a_run=True, bare_metrics=True)
    alone = _compare(setting, WithoutMetrics, as_in_a_run=False, bare_metrics=False)
    same = _compare(setting, WithoutMetrics, as_in_a_run=False, bare_metrics=False, same_threads=True)
    steps = _compare(setting, MultiLabelClassifier, as_in_a_run=True, bare_metrics=False)
    return [
        Row(
            "epoch of head training as in a run / the same in a bare loop",
            run.ratio,
            target="< 1.3",
            detail=f"{run}; both with metrics of train and val ({run.metric_seconds * 1e3:.1f} ms) and flushed "
            "checkpoints, the run also with progress, table and TensorBoard; bare: modules of torch.nn, fused Adam, "
            "torch's own number of threads",
        ),
        Row(
            "epoch without metrics and checkpoints / the same in a bare loop",
            alone.ratio,
            target="< 1.3",
            detail=f"{alone}",
        ),
        Row(
            "the same, the bare loop on as many threads as a run takes",
            same.ratio,
            detail=f"{same}; what Lightning itself costs",
        ),
        Row(
            "epoch as in a run / bare loop without metrics and checkpoints",
            steps.ratio,
            detail=f"{steps}; all that a run does more than train and score",
        ),
    ]


class _Comparison:
    """Seconds of interleaved epochs."""

    def __init__(self, turns: TakeTurns, bare_epoch: BareEpoch) -> None:
        bare, trained = turns.bare[WARM_UP_EPOCHS:], turns.trained[WARM_UP_EPOCHS:]
        self.ratio = median(b / a for a, b in zip(bare, trained, strict=True))
        self.of_minima = min(trained) / min(bare)
        self.bare, self.trained = median(bare), median(trained)
        self.metric_seconds = median(bare_epoch.metric_seconds or [0.0])

    def __str__(self) -> str:
        return (
            f"median of paired ratios; ratio of minima {self.of_minima:.2f}; "
            f"{self.trained * 1e3:.1f} and {self.bare * 1e3:.1f} ms an epoch"
        )


def _compare(
    setting: Setting,
    kind: type[MultiLabelClassifier],
    *,
    as_in_a_run: bool,
    bare_metrics: bool,
    same_threads: bool = False,
) -> _Comparison:
    folder = setting.work / "training"
    folder.mkdir(exist_ok=True)
    epochs = f"trainer.max_epochs={setting.choose(40, 5)}"
    config = compose(*setting.overrides(epochs), output=folder)
    datamodule: MultiLabelDataModule = instantiate(config.data)
    datamodule.features = MadeFeatures(folder)
    datamodule.setup()
    bare_epoch = BareEpoch(_bare(config, datamodule), folder, with_metrics=bare_metrics)
    turns = TakeTurns(bare_epoch, None if same_threads else torch.get_num_threads())
    chosen = [instantiate(callback) for callback in config.callbacks.values()] if as_in_a_run else []
    loggers = [instantiate(logger) for logger in config.logger.values()] if as_in_a_run else False
    options = {} if as_in_a_run else {"enable_checkpointing": False, "enable_progress_bar": False}
    trainer: L.Trainer = instantiate(config.trainer, callbacks=[turns, *chosen], logger=loggers, **options)
    model = _model(config, kind, datamodule)
    with head_threads(model, (FEATURES,), datamodule.batch_size, torch.device("cpu")):
        trainer.fit(model, datamodule)
    return _Comparison(turns, bare_epoch)


def _model(
    config: DictConfig, kind: type[MultiLabelClassifier], datamodule: MultiLabelDataModule
) -> MultiLabelClassifier:
    classes = datamodule.table.classes
    head: nn.Module = instantiate(config.head)((FEATURES,), len(classes))
    loss: nn.Module = instantiate(config.loss)(datamodule.class_weights)
    return kind(head, loss, instantiate(config.optimizer), classes, seed=0)


def _bare(config: DictConfig, datamodule: MultiLabelDataModule) -> BareTraining:
    """Return a bare loop on the same rows."""
    assert isinstance(datamodule.features, MadeFeatures)
    order = np.concatenate([datamodule.split.train, datamodule.split.val])
    bare = BareTraining(
        datamodule.features.features[torch.from_numpy(order)],
        torch.from_numpy(datamodule.table.labels[order].astype(np.float32)),
        num_train=len(datamodule.split.train),
        hidden=config.model.recipe.hidden,
        dropout=config.model.recipe.dropout,
        learning_rate=config.optimizer.lr,
    )
    bare.class_weights = torch.from_numpy(datamodule.class_weights)
    return bare
