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
        self.rows = MemoryRows(self.features)
        self._dataset = FeatureDataset(self.rows, targets)
        return self._dataset


class TakeTurns(L.Callback):
    """Runs a bare epoch before each epoch of the trainer, and measures both.

    Attributes:
        bare: seconds of each bare epoch.
        trained: seconds of each epoch of the trainer, including loaders, validation, metrics, callbacks and loggers.
    """

    def __init__(self, bare_epoch: Callable[[], object]) -> None:
        """Run `bare_epoch` on torch's own number of threads."""
        self.bare_epoch, self.threads = bare_epoch, torch.get_num_threads()
        self.bare: list[float] = []
        self.trained: list[float] = []
        self._resumed: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the previous epoch."""
        self._note_epoch()
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
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
    """An epoch in a bare loop, followed by metrics of train and val and checkpoints as in a run."""

    def __init__(self, training: BareTraining, folder: Path) -> None:
        """Write checkpoints to `folder`."""
        self.training, self.folder, self.best = training, folder, -1.0
        self.classes = [str(number) for number in range(training.targets.shape[1])]

    def __call__(self) -> None:
        """Train an epoch, score val, and compute metrics and checkpoints."""
        _, metrics = (
            evaluate_scores(torch.sigmoid(logits).numpy(), targets.numpy(), self.classes)
            for logits, targets in self.training.epoch()
        )
        state = {"head": self.training.head.state_dict(), "optimizer": self.training.optimizer.state_dict()}
        last = self.folder / "bare_last.ckpt"
        with last.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # as in a run, which must survive a power loss
        if metrics["map"] > self.best:
            self.best = metrics["map"]
            shutil.copyfile(last, self.folder / "bare_best.ckpt")


def head_training(setting: Setting) -> list[Row]:
    """Compare an epoch of a run with a loop that does the same work."""
    folder = setting.work / "training"
    folder.mkdir(exist_ok=True)
    epochs = f"trainer.max_epochs={setting.choose(40, 5)}"
    config = compose(*setting.overrides(epochs), output=folder)
    datamodule: MultiLabelDataModule = instantiate(config.data)
    datamodule.features = MadeFeatures(folder)
    datamodule.setup()
    turns = TakeTurns(BareEpoch(_bare(config, datamodule), folder))
    chosen = [instantiate(callback) for callback in config.callbacks.values()]
    loggers = [instantiate(logger) for logger in config.logger.values()]
    trainer: L.Trainer = instantiate(config.trainer, callbacks=[turns, *chosen], logger=loggers)
    model = _model(config, datamodule)
    with head_threads(model, (FEATURES,), datamodule.batch_size, torch.device("cpu")):
        trainer.fit(model, datamodule)
    bare, trained = turns.bare[WARM_UP_EPOCHS:], turns.trained[WARM_UP_EPOCHS:]
    return [
        Row(
            "epoch of head training as in a run / the same in a bare loop",
            median(b / a for a, b in zip(bare, trained, strict=True)),
            target="< 1.3",
            detail=f"median of paired ratios; {median(trained) * 1e3:.1f} and {median(bare) * 1e3:.1f} ms an epoch; "
            "both with metrics of train and val and flushed checkpoints, the run also with progress, table and "
            "TensorBoard; bare: modules of torch.nn, fused Adam, torch's own number of threads",
        )
    ]


def _model(config: DictConfig, datamodule: MultiLabelDataModule) -> MultiLabelClassifier:
    classes = datamodule.table.classes
    head: nn.Module = instantiate(config.head)((FEATURES,), len(classes))
    loss: nn.Module = instantiate(config.loss)(datamodule.class_weights)
    return MultiLabelClassifier(head, loss, instantiate(config.optimizer), classes, seed=0)


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
