"""Cached features in the place of images."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlic.errors import InputError
from mlic.features import CachedFeatures, FeatureReader, FeatureStore, memory, source
from mlic.features.dataset import MemoryRows, StreamedRows
from mlic.features.shard import DamagedShardError


@pytest.fixture
def make_source(tmp_path: Path, backbone: Any) -> Callable[..., CachedFeatures]:
    def make(**options: Any) -> CachedFeatures:
        settings = {"batch_size": 4, "num_workers": 0, "trainer": {"accelerator": "cpu"}, **options}
        return CachedFeatures(backbone, directory=tmp_path / "features", **settings)

    return make


@pytest.fixture
def targets() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (10, 3))


def test_extract_then_dataset(
    make_source: Callable[..., CachedFeatures],
    images: list[Path],
    targets: np.ndarray,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    cached = make_source()
    with pytest.raises(ValueError, match="call `dataset` first"):
        cached.training_sampler(np.arange(3), 0)
    with pytest.raises(ValueError, match="call `dataset` first"):
        cached.evaluation_dataset()
    images[2].write_bytes(b"")
    assert list(cached.extract(images)) == [images[2]]
    assert "9 computed, 1 images without" in caplog.text
    good = [path for path in images if path != images[2]][::-1]
    dataset = cached.dataset(good, targets[:9])
    inputs, _, rows = dataset.__getitems__([0, 8])
    assert inputs.shape == (2, 6)
    assert rows.tolist() == [0, 8]
    stored = cached.result.stores[0].load(cached.result.digests[[9, 0]])
    assert torch.equal(inputs, stored.float())
    assert sorted(cached.training_sampler(np.arange(4), 0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("views", [1, 2])
def test_sets_that_do_not_fit_are_streamed(
    make_source: Callable[..., CachedFeatures], images: list[Path], targets: np.ndarray, views: int
):
    datasets = []
    for memory_gb in (1.0, 1e-8, None):
        cached = make_source(memory_gb=memory_gb, views=views)
        cached.extract(images)
        datasets.append(cached.dataset(images, targets))
    assert [type(dataset.rows) for dataset in datasets] == [MemoryRows, StreamedRows, MemoryRows]
    indices = list(range(10 * views))
    assert torch.equal(datasets[0].__getitems__(indices)[0], datasets[1].__getitems__(indices)[0])


def _damage(store: FeatureStore) -> None:
    path = next(store.folder.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_damaged_rows_are_computed_again(
    make_source: Callable[..., CachedFeatures], images: list[Path], targets: np.ndarray
):
    cached = make_source()
    cached.extract(images)
    before = cached.dataset(images, targets).__getitems__(list(range(10)))[0]
    _damage(cached.result.stores[0])
    after = cached.dataset(images, targets).__getitems__(list(range(10)))[0]
    assert torch.equal(before, after)
    assert (cached.result.found, cached.result.computed) == (9, 1)


def test_rows_that_vanish_while_they_are_streamed_are_told(
    make_source: Callable[..., CachedFeatures], images: list[Path], targets: np.ndarray
):
    cached = make_source(memory_gb=1e-8)
    cached.extract(images)
    dataset = cached.dataset(images, targets)
    shutil.rmtree(cached.result.folder)
    with pytest.raises(
        InputError, match=r"cannot be opened \(No such file.* computed again by the next command"
    ):
        dataset.__getitems__([0, 8])


def test_rows_damaged_again_and_again_are_an_error(
    make_source: Callable[..., CachedFeatures],
    images: list[Path],
    targets: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(self: FeatureReader, indices: np.ndarray) -> None:
        raise DamagedShardError(Path("bad.safetensors"), "row 1 does not fit its checksum")

    cached = make_source()
    cached.extract(images)
    monkeypatch.setattr(FeatureReader, "gather", fail)
    with pytest.raises(InputError, match=r"bad.safetensors.*just computed: check the disk of features.dir"):
        cached.dataset(images, targets)


def test_features_go_to_a_device_only_when_they_fit(
    make_source: Callable[..., CachedFeatures],
    images: list[Path],
    targets: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
):
    cached = make_source(device="meta")
    cached.extract(images)
    assert cached.dataset(images, targets).targets.device.type == "cpu"
    monkeypatch.setattr(source, "_free_on", lambda device: 1e6)
    assert cached.dataset(images, targets).targets.device.type == "meta"


def test_memory_is_that_of_the_machine_or_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert memory.available_memory() > 2**20
    monkeypatch.setattr(memory, "_left_in_group", lambda root: 1000)
    assert memory.available_memory() <= 1000 or not Path("/proc/meminfo").exists()
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory.available_memory() > 2**20
