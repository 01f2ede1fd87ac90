"""What an epoch of head training costs through Lightning, beside a bare PyTorch loop."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from benchmarks.bare import BareTraining
from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.config import compose
from mlic.data import MultiLabelDataModule
from mlic.evaluation.metrics import evaluate_scores
from mlic.features import FeatureDataset, FeatureSampler
from mlic.features.dataset import MemoryRows
from mlic.models import MultiLabelClassifier

FEATURES = 1280  # of efficientnet_lite2, averaged
WARM_UP_EPOCHS = 2


class MadeFeatures:
    """Random features in the place of extracted ones: the seconds do not depend on their values."""

    def extract(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Nothing to do; all images are good."""
        return {}

    def dataset(self, paths: Sequence[Path], targets: np.ndarray) -> FeatureDataset:
        """float16 in memory, as a store gives them; they tell of the labels, so that checkpoints get better."""
        signal = torch.as_tensor(targets) @ torch.randn(targets.shape[1], FEATURES)
        features = (torch.randn(len(paths), FEATURES) + 0.2 * signal).half()
        self.served = FeatureDataset(MemoryRows([features]), targets)
        return self.served

    def training_sampler(self, rows: np.ndarray, seed: int) -> FeatureSampler:
        """As for extracted features."""
        return FeatureSampler(self.served, rows, seed=seed)


class WithoutMetrics(MultiLabelClassifier):
    """Trains and scores as ever, and computes nothing from the scores."""

    def _log_epoch(self, part: str, collector: Any) -> None:
        collector.reset()


class TakeTurns(L.Callback):
    """Runs a bare epoch before each epoch of the trainer, and takes the time of both.

    Attributes:
        bare: seconds of each bare epoch.
        trained: seconds of each epoch of the trainer, with all that belongs to it: loaders, validation,
            metrics, callbacks, loggers.
    """

    def __init__(self, bare: BareTraining, after_epoch: Any) -> None:
        """See `BareTraining.epoch`."""
        self.loop, self.after_epoch = bare, after_epoch
        self.bare: list[float] = []
        self.trained: list[float] = []
        self._resumed: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch before has ended."""
        self._note_epoch()
        start = time.perf_counter()
        self.loop.epoch(self.after_epoch)
        self._resumed = time.perf_counter()
        self.bare.append(self._resumed - start)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last epoch has ended."""
        self._note_epoch()

    def _note_epoch(self) -> None:
        if self._resumed is not None:
            self.trained.append(time.perf_counter() - self._resumed)


def head_training(setting: Setting) -> list[Row]:
    """The whole epoch of a real run; then Lightning and metrics each by itself."""
    whole = _compare(setting, MultiLabelClassifier, callbacks=True)
    metrics = _compare(setting, MultiLabelClassifier, callbacks=False, bare_metrics=True)
    alone = _compare(setting, WithoutMetrics, callbacks=False)
    note = "bare: torch.nn.Dropout, Linear, ReLU, Linear, fused Adam, scoring of val, no metrics"
    return [
        Row(
            "epoch of head training as in a run / bare PyTorch loop",
            whole.ratio,
            target="< 1.3",
            detail=f"{whole}; with metrics of train and val, callbacks, checkpoints, TensorBoard; {note}",
        ),
        Row(
            "the same without metrics, callbacks, loggers / bare",
            alone.ratio,
            detail=f"{alone}; what Lightning and the collecting of scores cost",
        ),
        Row(
            "the same with metrics only / bare with those metrics",
            metrics.ratio,
            detail=f"{metrics}; the metrics of train and val take {_metric_seconds(setting) * 1e3:.1f} ms",
        ),
    ]


class _Comparison:
    """Seconds of epochs that took turns."""

    def __init__(self, turns: TakeTurns) -> None:
        bare, trained = turns.bare[WARM_UP_EPOCHS:], turns.trained[WARM_UP_EPOCHS:]
        self.ratio = median(b / a for a, b in zip(bare, trained, strict=True))
        self.of_minima = min(trained) / min(bare)
        self.bare, self.trained = median(bare), median(trained)

    def __str__(self) -> str:
        return (
            f"median of paired ratios; ratio of minima {self.of_minima:.2f}; "
            f"{self.trained * 1e3:.1f} and {self.bare * 1e3:.1f} ms an epoch"
        )


def _compare(
    setting: Setting, kind: type[MultiLabelClassifier], *, callbacks: bool, bare_metrics: bool = False
) -> _Comparison:
    config = compose(
        *setting.overrides(), f"trainer.max_epochs={setting.choose(40, 5)}", output=setting.work / "training"
    )
    datamodule: MultiLabelDataModule = instantiate(config.data)
    datamodule.features = MadeFeatures()
    datamodule.setup()
    bare = _bare(config, datamodule)
    turns = TakeTurns(bare, (lambda *logits: _bare_metrics(bare, *logits)) if bare_metrics else None)
    chosen = [instantiate(callback) for callback in config.callbacks.values()] if callbacks else []
    loggers = [instantiate(logger) for logger in config.logger.values()] if callbacks else False
    options = {} if callbacks else {"enable_checkpointing": False, "enable_progress_bar": False}
    trainer: L.Trainer = instantiate(config.trainer, callbacks=[turns, *chosen], logger=loggers, **options)
    trainer.fit(_model(config, kind, datamodule), datamodule)
    return _Comparison(turns)


def _model(
    config: DictConfig, kind: type[MultiLabelClassifier], datamodule: MultiLabelDataModule
) -> MultiLabelClassifier:
    classes = datamodule.table.classes
    head: nn.Module = instantiate(config.head)((FEATURES,), len(classes))
    loss: nn.Module = instantiate(config.loss)(datamodule.class_weights)
    return kind(head, loss, instantiate(config.optimizer), classes, seed=0)


def _bare(config: DictConfig, datamodule: MultiLabelDataModule) -> BareTraining:
    order = np.concatenate([datamodule.split.train, datamodule.split.val])
    bare = BareTraining(
        torch.randn(len(order), FEATURES, dtype=torch.float16),
        torch.from_numpy(datamodule.table.labels[order].astype(np.float32)),
        num_train=len(datamodule.split.train),
        hidden=config.model.recipe.hidden,
        dropout=config.model.recipe.dropout,
        learning_rate=config.optimizer.lr,
    )
    bare.class_weights = torch.from_numpy(datamodule.class_weights)
    return bare


def _bare_metrics(bare: BareTraining, seen: Tensor, scored: Tensor) -> None:
    """Of train and val, as an epoch of a run computes them; which row is which does not matter here."""
    classes = [str(number) for number in range(bare.targets.shape[1])]
    for logits, targets in ((seen, bare.targets[: len(seen)]), (scored, bare.targets[len(seen) :])):
        evaluate_scores(torch.sigmoid(logits).numpy(), targets.numpy(), classes)


def _metric_seconds(setting: Setting) -> float:
    """Median seconds that the metrics of one epoch take, by themselves."""
    config = compose(*setting.overrides(), output=setting.work / "training")
    datamodule: MultiLabelDataModule = instantiate(config.data)
    datamodule.features = MadeFeatures()
    datamodule.setup()
    bare = _bare(config, datamodule)
    logits = torch.randn_like(bare.targets)
    seconds = []
    for _ in range(setting.choose(15, 3)):
        start = time.perf_counter()
        _bare_metrics(bare, logits[: bare.num_train], logits[bare.num_train :])
        seconds.append(time.perf_counter() - start)
    return median(seconds)
