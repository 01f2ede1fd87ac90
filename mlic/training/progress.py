"""Progress of training: Lightning's bar on a terminal, else one line per epoch."""

import logging
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from mlic.runs.terminal import has_room_for_bar

logger = logging.getLogger(__name__)

STEPS_A_REFRESH = 20  # a step on cached features takes a few milliseconds, about as long as drawing the bar
SHOWN = ("train/loss", "train/map", "val/loss", "val/map")


class TrainingProgress(TQDMProgressBar):
    """Lightning's progress bar or, if the output is not a terminal, one log line per epoch."""

    def __init__(self) -> None:
        """Enable the bar only on a terminal."""
        super().__init__(refresh_rate=STEPS_A_REFRESH if has_room_for_bar() else 0)
        self._epoch_start = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Start the clock of the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the values of the epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.refresh_rate == 0 and trainer.is_global_zero:
            values = trainer.callback_metrics
            shown = "  ".join(f"{name} {values[name].item():.4f}" for name in SHOWN if name in values)
            epoch, seconds = trainer.current_epoch + 1, time.perf_counter() - self._epoch_start
            logger.info("epoch %d/%s  %s  (%.2f s)", epoch, trainer.max_epochs, shown, seconds)
