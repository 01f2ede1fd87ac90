"""A terminal may tell a width of 0, where a bar would show nothing."""

import fcntl
import logging
import os
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlic.features.predicting import ExtractionProgress, FeatureExtractor
from mlic.training.progress import TrainingProgress


@contextmanager
def terminal(columns: int) -> Iterator[None]:
    """Let stderr be one."""
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with (
        pytest.MonkeyPatch.context() as patch,
        os.fdopen(controller, "rb"),
        os.fdopen(terminal, "w") as stream,
    ):
        patch.setattr(sys, "stderr", stream)
        yield


@pytest.mark.parametrize("columns", [0, 80])
def test_training_shows_a_bar_or_lines(columns: int, caplog: pytest.LogCaptureFixture):
    trainer: Any = SimpleNamespace(
        current_epoch=0, max_epochs=2, num_training_batches=1, callback_metrics={"val/map": torch.tensor(0.5)},
        is_global_zero=True,
    )  # fmt: skip
    with caplog.at_level(logging.INFO), terminal(columns):
        progress = TrainingProgress()
        progress.on_train_start(trainer, SimpleNamespace())  # pyright: ignore[reportArgumentType]
        progress.on_train_epoch_end(trainer, SimpleNamespace())  # pyright: ignore[reportArgumentType]
        progress.on_train_end(trainer, SimpleNamespace())  # pyright: ignore[reportArgumentType]
    assert ("epoch 1/2  val/map 0.5000" in caplog.text) == (columns == 0)


@pytest.mark.parametrize("columns", [0, 80])
def test_so_does_extraction(columns: int, caplog: pytest.LogCaptureFixture):
    extractor: Any = FeatureExtractor.__new__(FeatureExtractor)
    extractor.__dict__["work"] = range(4)
    trainer: Any = SimpleNamespace(is_global_zero=True, world_size=1)
    progress = ExtractionProgress()
    with caplog.at_level(logging.INFO), terminal(columns):
        progress.on_predict_start(trainer, extractor)
        batch: Any = (torch.empty(4), torch.empty(4), torch.arange(4))
        progress.on_predict_batch_end(trainer, extractor, (), batch, 0)  # pyright: ignore
        progress.on_predict_end(trainer, extractor)
    assert ("features: 4 of 4 images" in caplog.text) == (columns == 0)
