"""Extraction that is killed, or done by several processes at once, ends with one good store."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlic.features import FeatureStore
from mlic.features.shard import Shard

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("interruption")]

SERVER = Path(__file__).parent / "extraction_server.py"
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MASTER_ADDR": "127.0.0.1"}
NUM_IMAGES = 100
SHARD_ROWS = 16
NUM_BATCHES = 13
BATCH_SECONDS = 0.05
# 16 rows of 256 half-precision features
OPTIONS = {
    "batch_size": 8,
    "num_workers": 1,
    "shard_mb": SHARD_ROWS * 512 / 1e6,
    "trainer": {"accelerator": "cpu"},
}


class Server:
    """Starts extractions in processes of their own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def start(self, job: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(timeout=30)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., list[Path]]) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_images(folder, NUM_IMAGES)
    return folder


def _job(pictures: Path, folder: Path, name: str = "result", **options: Any) -> dict[str, Any]:
    return {
        "images": str(pictures),
        "features": str(folder / "features"),
        "result": str(folder / name),
        "options": {**OPTIONS, **options},
    }


def _wait_for(result: Path, *, seconds: float = 120) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while not Path(f"{result}.0").exists():
        assert time.monotonic() < end, Path(f"{result}.log").read_text()
        time.sleep(0.01)
    return json.loads(Path(f"{result}.0").read_text())


def _rows(found: dict[str, Any]) -> Tensor:
    return FeatureStore.at(Path(found["folder"])).load(np.array(found["digests"], dtype="S64"))


def _shards(folder: Path) -> list[Shard]:
    stores = [FeatureStore.at(path.parent) for path in folder.glob("features/*/store.json")]
    return [Shard(path, store.layout) for store in stores for path in store.folder.glob("*.safetensors")]


@pytest.fixture(scope="module")
def whole(server: Server, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """Rows of a store made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    server.start(_job(pictures, folder))
    found = _wait_for(folder / "result")
    assert found["computed"] == NUM_IMAGES
    return _rows(found)


@pytest.mark.parametrize("moment", range(20))
def test_a_kill_costs_at_most_the_shards_in_hand(
    moment: int, server: Server, pictures: Path, whole: Tensor, tmp_path: Path
):
    drawn, batches = random.Random(moment), tmp_path / "killed.batches"
    process = server.start({**_job(pictures, tmp_path, "killed"), "batch_seconds": BATCH_SECONDS})
    first_batches = drawn.randrange(NUM_BATCHES - 1)
    while not batches.exists() or batches.stat().st_size < first_batches:
        time.sleep(0.001)
    time.sleep(drawn.uniform(0, BATCH_SECONDS))
    os.kill(process, signal.SIGKILL)
    while Path(f"/proc/{process}").exists():
        time.sleep(0.01)
    assert not Path(f"{tmp_path / 'killed'}.0").exists()
    stored, computed = sum(len(shard) for shard in _shards(tmp_path)), 8 * batches.stat().st_size
    assert stored < NUM_IMAGES
    # one shard in hand, one being written, and the batch in between
    assert computed - stored <= 2 * SHARD_ROWS + 8
    server.start(_job(pictures, tmp_path, "again"))
    found = _wait_for(tmp_path / "again")
    assert (found["found"], found["computed"]) == (stored, NUM_IMAGES - stored)
    assert torch.equal(_rows(found), whole)
    assert sum(len(shard) for shard in _shards(tmp_path)) == NUM_IMAGES
    assert not list(tmp_path.glob("features/*/*.tmp"))


def test_two_processes_at_once_end_with_one_store(
    server: Server, pictures: Path, whole: Tensor, tmp_path: Path
):
    for name in ("one", "two"):
        server.start({**_job(pictures, tmp_path, name), "batch_seconds": 0.2})
    found = [_wait_for(tmp_path / name) for name in ("one", "two")]
    assert sorted(result["computed"] for result in found) == [0, NUM_IMAGES]
    assert "waiting until it is done" in "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert torch.equal(_rows(found[0]), whole)
    assert sum(len(shard) for shard in _shards(tmp_path)) == NUM_IMAGES


def _run_distributed(job: dict[str, Any]) -> None:
    options = {**job["options"], "trainer": {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}}
    command = [sys.executable, SERVER, json.dumps({**job, "options": options})]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=180, capture_output=True)


@pytest.mark.long
def test_two_processes_of_one_run_give_the_same_rows(pictures: Path, whole: Tensor, tmp_path: Path):
    for _ in range(2):  # the second time there is nothing to do
        _run_distributed(_job(pictures, tmp_path))
    results = [json.loads((tmp_path / f"result.{rank}").read_text()) for rank in range(2)]
    assert results[0]["found"] == NUM_IMAGES
    assert results[0]["digests"] == results[1]["digests"]
    torch.testing.assert_close(_rows(results[1]), whole)
    digests = np.concatenate([shard.digests for shard in _shards(tmp_path)])
    assert len(digests) == len(np.unique(digests)) == NUM_IMAGES


@pytest.mark.long
def test_fewer_images_than_processes(pictures: Path, tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "only.png").write_bytes(next(pictures.iterdir()).read_bytes())
    _run_distributed(_job(tmp_path / "one", tmp_path))
    assert json.loads((tmp_path / "result.0").read_text())["computed"] == 1
    assert [len(shard) for shard in _shards(tmp_path)] == [1]


def test_rows_in_bfloat16_do_not_depend_on_their_batch(server: Server, pictures: Path, tmp_path: Path):
    rows = []
    for name, numbers in (("together", [range(40)]), ("apart", [range(3), range(17), range(40)])):
        for number, part in enumerate(numbers):
            some = tmp_path / name / f"images{number}"
            some.mkdir(parents=True)
            for path in sorted(pictures.iterdir())[: len(part)]:
                (some / path.name).write_bytes(path.read_bytes())
            job = {**_job(some, tmp_path / name, f"result{number}"), "precision": "bfloat16"}
            server.start(job)
            found = _wait_for(tmp_path / name / f"result{number}")
        rows.append(_rows(found))
    assert torch.equal(*rows)


def test_memory_does_not_grow_with_the_number_of_images(
    server: Server, make_images: Callable[..., list[Path]], tmp_path: Path
):
    peaks = []
    for number in (200, 4000):
        make_images(tmp_path / f"{number}", number, seed=number, size=8)
        server.start(_job(tmp_path / f"{number}", tmp_path, f"result{number}", batch_size=32, shard_mb=1))
        found = _wait_for(tmp_path / f"result{number}")
        assert found["computed"] == number
        peaks.append(found["peak_mb"])
    assert peaks[1] - peaks[0] < 30, peaks
