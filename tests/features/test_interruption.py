"""Extraction that is killed, or done by several processes at once, ends with one good store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlic.features.store import FeatureStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("interruption")]

SCRIPT = Path(__file__).parent / "extract_once.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
NUM_IMAGES, BATCH_SIZE, SHARD_ROWS = 100, 8, 16


def start(
    pictures: Path, folder: Path, name: str, *, seconds: float = 0.0, processes: int = 1
) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), SCRIPT, pictures]
    arguments = [folder / "features", folder / name, seconds]
    return subprocess.Popen([*map(str, command), *map(str, arguments)], env=ENVIRONMENT)


def extracted(*arguments: Any, **options: Any) -> tuple[dict[str, Any], Tensor]:
    """What a whole extraction found, and its rows."""
    assert start(*arguments, **options).wait(timeout=180) == 0
    return result(arguments[1] / arguments[2])


def result(path: Path) -> tuple[dict[str, Any], Tensor]:
    found = json.loads(Path(f"{path}.0").read_text())
    return found, FeatureStore.at(Path(found["folder"])).load(np.array(found["digests"], dtype="S64"))


def stored_rows(folder: Path) -> int:
    """Rows of all shards; each is there once."""
    stores = [FeatureStore.at(path.parent) for path in folder.glob("features/*/store.json")]
    digests = [digest for store in stores for shard in store.shards for digest in shard.digests.tolist()]
    assert len(set(digests)) == len(digests)
    return len(digests)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., list[Path]]) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_images(folder, NUM_IMAGES)
    return folder


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """Rows of a store made in one go."""
    found, rows = extracted(pictures, tmp_path_factory.mktemp("whole"), "result")
    assert found["computed"] == NUM_IMAGES
    return rows


@pytest.mark.parametrize(("number", "batches"), [(signal.SIGKILL, 8), (signal.SIGTERM, 6)])
def test_an_interruption_costs_at_most_the_shard_in_hand(
    number: int, batches: int, pictures: Path, whole: Tensor, tmp_path: Path
):
    process, counted = start(pictures, tmp_path, "killed", seconds=0.1), tmp_path / "killed.batches"
    while not counted.exists() or counted.stat().st_size < batches:
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(timeout=60) == (-number if number == signal.SIGKILL else 128 + number)
    stored, computed = stored_rows(tmp_path), BATCH_SIZE * counted.stat().st_size
    lost = computed - stored
    assert stored < NUM_IMAGES and lost <= BATCH_SIZE + (SHARD_ROWS if number == signal.SIGKILL else 0)
    found, rows = extracted(pictures, tmp_path, "again")
    assert (found["found"], found["computed"]) == (stored, NUM_IMAGES - stored)
    torch.testing.assert_close(rows, whole)
    assert stored_rows(tmp_path) == NUM_IMAGES
    assert not list(tmp_path.glob("features/*/*.tmp"))


def test_two_processes_at_once_end_with_one_store(pictures: Path, whole: Tensor, tmp_path: Path):
    both = [start(pictures, tmp_path, name, seconds=0.2) for name in ("one", "two")]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    found = [result(tmp_path / name) for name in ("one", "two")]
    assert sorted(numbers["computed"] for numbers, _ in found) == [0, NUM_IMAGES]
    torch.testing.assert_close(found[0][1], whole)
    assert stored_rows(tmp_path) == NUM_IMAGES


@pytest.mark.long
def test_two_processes_of_one_run_give_the_same_rows(pictures: Path, whole: Tensor, tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "only.png").write_bytes(sorted(pictures.iterdir())[0].read_bytes())
    fewer, _ = extracted(tmp_path / "one", tmp_path, "fewer images than processes", processes=2)
    found, rows = extracted(pictures, tmp_path, "result", processes=2)
    assert (fewer["computed"], found["computed"]) == (1, NUM_IMAGES - 1)
    torch.testing.assert_close(rows, whole)
    assert json.loads((tmp_path / "result.1").read_text())["digests"] == found["digests"]
    assert stored_rows(tmp_path) == NUM_IMAGES
