"""Batches of features from memory and from the disk, and their order."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mlic.features.dataset import (
    FeatureDataset,
    FeatureSampler,
    MemoryRows,
    StreamedRows,
)
from mlic.features.store import FeatureStore

Filled = tuple[FeatureStore, np.ndarray, Tensor]

NUM_IMAGES = 40


def _targets() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (NUM_IMAGES, 4))


def _streamed(filled: Filled, *, rows_in_memory: int, block_rows: int = 3) -> StreamedRows:
    store, digests, _ = filled
    return StreamedRows(store.reader(digests), memory_bytes=rows_in_memory * 12, block_bytes=block_rows * 12)


def _loader(dataset: FeatureDataset, sampler: FeatureSampler) -> DataLoader:
    return DataLoader(dataset, batch_size=6, sampler=sampler, collate_fn=lambda batch: batch)


def test_batches_hold_features_targets_and_image_numbers():
    features, targets = torch.randn(NUM_IMAGES, 2, 3).half(), _targets()
    dataset = FeatureDataset(MemoryRows(features), targets)
    inputs, labels, images = dataset.__getitems__([7, 0, 7])
    assert torch.equal(inputs, features[[7, 0, 7]].float())
    assert torch.equal(labels, torch.tensor(targets[[7, 0, 7]], dtype=torch.float32))
    assert (images.tolist(), images.dtype) == ([7, 0, 7], torch.int64)
    assert [tuple(part.shape) for part in dataset[3]] == [(2, 3), (4,), ()]
    with pytest.raises(ValueError, match="40 rows of features do not fit 39 rows of targets"):
        FeatureDataset(MemoryRows(features), targets[:39])


@pytest.mark.parametrize("rows_in_memory", [1, 20])
def test_streamed_batches_hold_the_same_rows_as_those_in_memory(filled: Filled, rows_in_memory: int):
    features, rows = filled[2], np.arange(1, NUM_IMAGES)
    streamed = _streamed(filled, rows_in_memory=rows_in_memory)
    dataset = FeatureDataset(streamed, _targets())
    sampler = FeatureSampler(dataset, rows, seed=0)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        seen = []
        for inputs, targets, images in _loader(dataset, sampler):
            assert torch.equal(inputs, features[images])
            assert torch.equal(targets, torch.tensor(_targets(), dtype=torch.float32)[images])
            assert sum(len(loaded) for loaded, _ in streamed._loaded) <= max(rows_in_memory, 6)
            seen += images.tolist()
        assert sorted(seen) == rows.tolist()
    # beside the windows, as in evaluation
    wanted = torch.tensor([0, 3, 39, 8, 7, 5, 3])
    assert torch.equal(streamed.gather(wanted), features[wanted])


def test_streamed_order_keeps_neighbours_together(filled: Filled):
    rows = _streamed(filled, rows_in_memory=20, block_rows=5)
    rank = np.argsort(rows.reader.disk_order())
    windows = rows.windows(np.arange(NUM_IMAGES), np.random.default_rng(0))
    assert [len(window) for window in windows] == [10, 10, 10, 10]
    for window in windows:
        assert len(np.unique(rank[window] // 5)) == 2  # two blocks of five rows
        assert not np.array_equal(np.sort(rank[window]), rank[window])


def test_the_order_depends_on_seed_and_epoch_alone():
    dataset = FeatureDataset(MemoryRows(torch.zeros(NUM_IMAGES, 3)), _targets())
    rows = np.arange(5, 25)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = FeatureSampler(dataset, rows, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    state = torch.get_rng_state()
    assert order(1, 2) == order(1, 2) == np.random.default_rng((1, 2)).permutation(rows).tolist()
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("streamed", [False, True])
def test_processes_share_the_rows(filled: Filled, streamed: bool, monkeypatch: pytest.MonkeyPatch):
    rows = _streamed(filled, rows_in_memory=8) if streamed else MemoryRows(filled[2])
    dataset = FeatureDataset(rows, _targets())
    samplers = []
    for rank in range(3):
        monkeypatch.setattr("mlic.features.dataset.group_size_and_rank", lambda rank=rank: (3, rank))
        samplers.append(FeatureSampler(dataset, np.arange(NUM_IMAGES - 2), seed=0))
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [13, 13, 13] == [len(sampler) for sampler in samplers]
    together = [index for part in parts for index in part]
    assert set(together) == set(range(NUM_IMAGES - 2))
    assert len(together) - len(set(together)) == 1  # one row fills up the last process
