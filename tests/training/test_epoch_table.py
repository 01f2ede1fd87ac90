"""epochs.csv, and its way through a checkpoint."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from mlic.models import MultiLabelClassifier
from mlic.training import EpochTable


def end_epoch(table: EpochTable, epoch: int, **values: float) -> None:
    trainer: Any = SimpleNamespace(callback_metrics={}, current_epoch=epoch, is_global_zero=True)
    module = MultiLabelClassifier(torch.nn.Identity(), torch.nn.Identity(), torch.optim.Adam, ["a"])
    module.epoch_metrics = {name.replace("_", "/"): value for name, value in values.items()}
    table.on_train_epoch_end(trainer, module)


def test_one_row_an_epoch_with_columns_that_come_later(tmp_path: Path):
    table = EpochTable(tmp_path / "epochs.csv")
    end_epoch(table, 0, train_loss=0.25)
    end_epoch(table, 1, train_loss=0.1, val_map=0.7)
    frame = pd.read_csv(tmp_path / "epochs.csv", float_precision="round_trip")
    assert list(frame.columns) == ["epoch", "train/loss", "val/map"]
    assert frame["epoch"].tolist() == [0, 1] and frame["train/loss"].tolist() == [
        0.25,
        0.1,
    ]
    assert frame["val/map"].isna().tolist() == [True, False] and frame["val/map"].tolist()[
        1
    ] == pytest.approx(0.7)


def test_a_resumed_table_goes_on_where_the_checkpoint_was_written(tmp_path: Path):
    first, resumed = EpochTable(tmp_path / "first.csv"), EpochTable(tmp_path / "resumed.csv")
    end_epoch(first, 0, train_loss=0.3)
    end_epoch(first, 1, train_loss=0.1, val_map=0.7)
    torch.save(first.state_dict(), tmp_path / "state.ckpt")
    resumed.load_state_dict(torch.load(tmp_path / "state.ckpt", weights_only=True))
    assert resumed.rows == first.rows
    for table in (first, resumed):
        end_epoch(table, 2, train_loss=0.05, val_map=0.8)
    assert (tmp_path / "resumed.csv").read_text() == (tmp_path / "first.csv").read_text()
