"""The table epochs.csv: one row per epoch with loss and metrics of train and val."""

import csv
import io
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L

from mlic.models import MultiLabelClassifier
from mlic.runs.folder import write_atomically


class EpochTable(L.Callback):
    """Records the logged values of each epoch and writes them to the file after each epoch.

    The rows are part of checkpoints, so that a resumed run continues the table as it was at that epoch.
    """

    def __init__(self, path: str | Path) -> None:
        """Write to `path`."""
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []
        self._columns_written: list[str] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the row of the epoch; checkpoint callbacks run later, so that a checkpoint contains its own row."""
        assert isinstance(pl_module, MultiLabelClassifier)
        logged = {
            name: value.item() for name, value in trainer.callback_metrics.items()
        }  # including those of callbacks
        values = {**logged, **pl_module.epoch_metrics}
        self.rows.append({"epoch": trainer.current_epoch, **dict(sorted(values.items()))})
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        """Append a line, or rewrite the file if columns are new; replacing a file takes as long as a step."""
        columns = self._columns
        if columns != self._columns_written:
            write_atomically(self.path, self._text(), durable=False)
            self._columns_written = columns
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, columns, lineterminator="\n").writerow(self.rows[-1])

    @property
    def _columns(self) -> list[str]:
        return list(dict.fromkeys(chain.from_iterable(self.rows)))

    def _text(self) -> str:
        text = io.StringIO()
        # not pandas, which is several times slower for a table of this size
        table = csv.DictWriter(text, self._columns, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as one text, because thousands of numbers would double the time to write a checkpoint."""
        return {"rows": self._text()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint; the file is rewritten after the next epoch."""
        self._columns_written = []
        self.rows = [
            {"epoch": int(row.pop("epoch")), **{name: float(value) for name, value in row.items() if value}}
            for row in csv.DictReader(io.StringIO(state_dict["rows"]))
        ]
