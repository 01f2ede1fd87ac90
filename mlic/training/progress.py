"""Progress of training: a bar on a terminal, one line an epoch elsewhere."""

import logging
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from mlic.runs.terminal import has_room_for_bar

logger = logging.getLogger(__name__)

BAR_SECONDS = 0.2  # between two drawings of the bar; a step on cached features takes a hundredth of that


class TrainingProgress(ProgressBar):
    """One bar over the steps of all epochs; one log line an epoch where the output is not a terminal with a width."""

    def __init__(self) -> None:
        """Draw only on a terminal."""
        super().__init__()
        self._bar: tqdm | None = None
        self._draws_bar = has_room_for_bar()
        self._epoch_start = 0.0

    def disable(self) -> None:
        """Called on all processes but the first."""
        self._draws_bar = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar."""
        if self._draws_bar:
            done = trainer.current_epoch * int(trainer.num_training_batches)
            total = (trainer.max_epochs or 0) * int(trainer.num_training_batches)
            self._bar = tqdm(
                total=total, initial=done, unit="step", mininterval=BAR_SECONDS, dynamic_ncols=True
            )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the values of the epoch."""
        values = trainer.callback_metrics
        shown = [
            f"{name} {values[name].item():.4f}"
            for name in ("train/loss", "train/map", "val/loss", "val/map")
            if name in values
        ]
        if self._bar is not None:
            self._bar.set_description(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False
            )
            self._bar.set_postfix_str("  ".join(shown), refresh=False)
        elif trainer.is_global_zero:
            seconds = time.perf_counter() - self._epoch_start
            logger.info(
                "epoch %d/%s  %s  (%.2f s)",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                "  ".join(shown),
                seconds,
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
