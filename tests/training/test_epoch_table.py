"""epochs.csv, and its way through a checkpoint."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from mlic.models import MultiLabelClassifier
from mlic.training import EpochTable


def end_epoch(table: EpochTable, epoch: int, **values: float) -> None:
    trainer: Any = SimpleNamespace(
        callback_metrics={"own": torch.tensor(0.5)}, current_epoch=epoch, is_global_zero=True
    )
    module = MultiLabelClassifier(torch.nn.Identity(), torch.nn.Identity(), torch.optim.Adam, ["a"])
    module.epoch_metrics = {name.replace("_", "/"): value for name, value in values.items()}
    table.on_train_epoch_end(trainer, module)


def test_a_resumed_table_goes_on_where_the_checkpoint_was_written(tmp_path: Path):
    first, resumed = EpochTable(tmp_path / "first.csv"), EpochTable(tmp_path / "resumed.csv")
    end_epoch(first, 0, train_loss=0.3)
    end_epoch(first, 1, train_loss=0.1, val_map=0.7)  # a column that comes later
    torch.save(first.state_dict(), tmp_path / "state.ckpt")
    resumed.load_state_dict(torch.load(tmp_path / "state.ckpt", weights_only=True))
    for table in (first, resumed):
        end_epoch(table, 2, train_loss=0.05, val_map=0.8)
    assert (tmp_path / "resumed.csv").read_text() == (tmp_path / "first.csv").read_text()
    frame = pd.read_csv(tmp_path / "first.csv")
    assert list(frame.columns) == ["epoch", "own", "train/loss", "val/map"]
    assert frame["epoch"].tolist() == [0, 1, 2] and frame["train/loss"].tolist() == [0.3, 0.1, 0.05]
    assert frame["val/map"].isna().tolist() == [True, False, False]
