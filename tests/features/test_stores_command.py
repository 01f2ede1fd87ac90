"""python -m mlic.features"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from mlic.features.maintenance import manage_stores
from mlic.features.store import FeatureStore, size_of

Filled = tuple[FeatureStore, np.ndarray, Tensor]
SECONDS_A_DAY = 86_400


def test_list_and_verify(filled: Filled, capsys: pytest.CaptureFixture[str]):
    store = filled[0]
    days_ago = time.time() - 3 * SECONDS_A_DAY
    os.utime(store.folder / "last_used", (days_ago, days_ago))
    assert manage_stores("list", store.root)
    _, listed, root = capsys.readouterr().out.splitlines()
    rows, size, seconds, days, folder = listed.split()
    assert (rows, days, folder, root) == ("40", "3.0", store.folder.name, f"stores in {store.root}")
    assert float(size) == pytest.approx(size_of(store.folder) / 1e6, abs=0.1) and float(seconds) >= 0
    bad = next(store.folder.glob("*.safetensors"))
    bad.write_bytes(bad.read_bytes()[:-1] + b"\1")
    assert manage_stores("list", store.root) and bad.exists(), "listing reads headers alone"
    assert not manage_stores("verify", store.root)
    output = capsys.readouterr().out
    assert "30 rows, 1 damaged shards set aside" in output and bad.name in output
    assert manage_stores("verify", store.root)
    (store.folder / "store.json").write_text('{"format_version": 99}')
    assert manage_stores("list", store.root) and manage_stores("verify", store.root)
    output = capsys.readouterr().out
    assert "other format" in output and "is not a feature store" in output


def test_prune_removes_only_stores_that_were_not_used(filled: Filled, capsys: pytest.CaptureFixture[str]):
    store = filled[0]
    other = store.root / "photos"  # of another program
    other.mkdir()
    for name, text in (("store.json", '{"a": 1}'), ("00001.safetensors", "mine")):
        (other / name).write_text(text)
    manage_stores("prune", store.root, days=2)
    assert store.folder.exists()
    days_ago = time.time() - 3 * SECONDS_A_DAY
    os.utime(store.folder / "last_used", (days_ago, days_ago))
    manage_stores("prune", store.root, days=2)
    assert "in use, not removed" in capsys.readouterr().out  # `store` has read it
    assert store.folder.exists() and store._in_use is not None
    store._in_use()
    manage_stores("prune", store.root, days=2)
    assert str(store.folder) in capsys.readouterr().out
    assert not store.folder.exists() and len(list(other.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["action=verify", "dir=a=b, c"], 0, "no feature stores in 'a=b, c'"),
        (["action=prune"], 1, "days: must be given with action=prune, such as days=30"),
    ],
)
def test_command_line(arguments: list[str], status: int, message: str, run_server: Any, tmp_path: Path):
    assert run_server.run(*arguments, folder=tmp_path, command="features") == status
    shown = (tmp_path / "command.log").read_text()
    assert message in shown and "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["command.log"]
