"""Callbacks of a run: the table of epochs, and the progress of training."""

import csv
import io
import logging
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from mlic.models import MultiLabelClassifier
from mlic.runs.folder import write_atomically

logger = logging.getLogger(__name__)

STEPS_A_REFRESH = 20  # a step on cached features takes a few milliseconds, about as long as drawing the bar
SHOWN = ("train/loss", "train/map", "val/loss", "val/map")


class EpochTable(L.Callback):
    """Records loss and metrics of train and val in each epoch, and writes them to epochs.csv, one row per epoch.

    The rows are part of checkpoints, so that a resumed run continues the table as it was at that epoch.
    """

    def __init__(self, path: str | Path) -> None:
        """Write to `path`."""
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the row of the epoch; checkpoint callbacks run later, so that a checkpoint contains its own row."""
        assert isinstance(pl_module, MultiLabelClassifier)
        # including those of callbacks of the user
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        values = {**logged, **pl_module.epoch_metrics}
        self.rows.append({"epoch": trainer.current_epoch, **dict(sorted(values.items()))})
        if trainer.is_global_zero:
            write_atomically(self.path, self._text(), durable=False)

    def _text(self) -> str:
        text = io.StringIO()
        columns = dict.fromkeys(name for row in self.rows for name in row)
        # not pandas, which is several times slower for a table of this size
        table = csv.DictWriter(text, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as one text, because thousands of numbers would double the time to write a checkpoint."""
        return {"rows": self._text()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint; the file is written after the next epoch."""
        self.rows = [
            {"epoch": int(row.pop("epoch")), **{name: float(value) for name, value in row.items() if value}}
            for row in csv.DictReader(io.StringIO(state_dict["rows"]))
        ]


class TrainingProgress(TQDMProgressBar):
    """Lightning's progress bar or, if the output is not a terminal, one log line per epoch."""

    def __init__(self) -> None:
        """Enable the bar only on a terminal."""
        super().__init__(refresh_rate=STEPS_A_REFRESH if sys.stderr.isatty() else 0)
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
