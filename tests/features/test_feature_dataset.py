"""Batches of features from memory and from the disk, and their order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mlic.features import FeatureDataset, FeatureSampler, FeatureStore
from mlic.features.dataset import AllViews, MemoryRows, StreamedRows

Filled = tuple[FeatureStore, np.ndarray, Tensor]

NUM_IMAGES = 40


def _targets() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (NUM_IMAGES, 4))


def _streamed(filled: Filled, *, rows_in_memory: int, block_rows: int = 3, views: int = 1) -> StreamedRows:
    store, digests, _ = filled
    readers = [store.reader(digests if view == 0 else digests[::-1]) for view in range(views)]
    return StreamedRows(readers, memory_bytes=rows_in_memory * 12, block_bytes=block_rows * 12)


def _batches(dataset: FeatureDataset, sampler: FeatureSampler) -> list[tuple[Tensor, Tensor, Tensor]]:
    return list(DataLoader(dataset, batch_size=6, sampler=sampler, collate_fn=lambda batch: batch))


def test_batches_hold_features_targets_and_image_numbers():
    features, targets = torch.randn(NUM_IMAGES, 2, 3).half(), _targets()
    dataset = FeatureDataset(MemoryRows([features]), targets)
    inputs, labels, images = dataset.__getitems__([7, 0, 7])
    assert torch.equal(inputs, features[[7, 0, 7]].float())
    assert torch.equal(labels, torch.tensor(targets[[7, 0, 7]], dtype=torch.float32))
    assert (images.tolist(), images.dtype) == ([7, 0, 7], torch.int64)
    assert [tuple(part.shape) for part in dataset[3]] == [(2, 3), (4,), ()]
    assert len(dataset) == NUM_IMAGES


def test_rows_and_targets_must_fit():
    with pytest.raises(ValueError, match="40 rows of features do not fit 39 rows of targets"):
        FeatureDataset(MemoryRows([torch.zeros(NUM_IMAGES, 3)]), _targets()[:39])
    with pytest.raises(ValueError, match="0 rows of targets"):
        FeatureDataset(MemoryRows([torch.zeros(NUM_IMAGES, 3)]), _targets()[:0])


@pytest.mark.parametrize("rows_in_memory", [1, 12, 20, 1000])
def test_streamed_batches_hold_the_same_rows_as_those_in_memory(filled: Filled, rows_in_memory: int):
    features = filled[2]
    rows = np.arange(1, NUM_IMAGES)
    dataset = FeatureDataset(_streamed(filled, rows_in_memory=rows_in_memory), _targets())
    sampler = FeatureSampler(dataset, rows, seed=0)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = _batches(dataset, sampler)
        for inputs, targets, images in batches:
            assert torch.equal(inputs, features[images])
            assert torch.equal(targets, torch.tensor(_targets(), dtype=torch.float32)[images])
        assert sorted(torch.cat([images for _, _, images in batches]).tolist()) == rows.tolist()


def test_rows_outside_the_windows_are_read_too(filled: Filled):
    rows = _streamed(filled, rows_in_memory=12)
    rows.hold(np.array([3, 4, 5]), np.array([6]))
    rows.hold(np.array([8, 7]), None)
    wanted = torch.tensor([0, 3, 39, 8, 7, 5, 3])
    assert torch.equal(rows.gather(wanted), filled[2][wanted])


def test_streaming_holds_no_more_than_allowed(filled: Filled):
    rows = _streamed(filled, rows_in_memory=12)
    dataset = FeatureDataset(rows, _targets())
    sampler = FeatureSampler(dataset, np.arange(NUM_IMAGES), seed=0)
    held = [sum(len(features) for _, features in rows._held) for _ in sampler]
    assert max(held) <= 12
    assert max(held) > 6


def test_streamed_order_keeps_neighbours_together(filled: Filled):
    rows = _streamed(filled, rows_in_memory=20, block_rows=5)
    place = np.empty(NUM_IMAGES, dtype=int)
    place[rows.readers[0].disk_order()] = np.arange(NUM_IMAGES)
    windows = rows.windows(np.arange(NUM_IMAGES), np.random.default_rng(0))
    assert [len(window) for window in windows] == [10, 10, 10, 10]
    for window in windows:
        assert len(np.unique(place[window] // 5)) == 2  # two blocks of five rows
        assert not np.array_equal(np.sort(place[window]), place[window])


def test_the_order_depends_on_seed_and_epoch_alone():
    dataset = FeatureDataset(MemoryRows([torch.zeros(NUM_IMAGES, 3)]), _targets())
    rows = np.arange(5, 25)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = FeatureSampler(dataset, rows, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    state = torch.get_rng_state()
    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == rows.tolist()
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert torch.equal(torch.get_rng_state(), state)


def test_one_view_is_drawn_for_each_image_and_epoch():
    views = [torch.arange(NUM_IMAGES)[:, None] + offset for offset in (0.0, 1000.0)]
    dataset = FeatureDataset(MemoryRows(views), _targets())
    assert (len(dataset), dataset.num_views) == (NUM_IMAGES, 2)
    sampler = FeatureSampler(dataset, np.arange(NUM_IMAGES), seed=0)
    drawn = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        inputs, _, images = (torch.cat(parts) for parts in zip(*_batches(dataset, sampler), strict=True))
        assert torch.equal(inputs[:, 0] % 1000, images.float())
        assert sorted(images.tolist()) == list(range(NUM_IMAGES))
        drawn.append((inputs[:, 0] >= 1000)[images.argsort()])
        assert 10 < drawn[-1].sum() < 30
    assert not torch.equal(drawn[0], drawn[1])
    # without the sampler, as in evaluation, only the images as they are
    assert dataset.__getitems__(list(range(NUM_IMAGES)))[0].max() < 1000


def test_views_are_streamed_too(filled: Filled):
    dataset = FeatureDataset(_streamed(filled, rows_in_memory=20, views=2), _targets())
    both = torch.cat([filled[2], filled[2].flip(0)])
    sampler = FeatureSampler(dataset, np.arange(NUM_IMAGES), seed=0)
    indices = list(sampler)
    assert sorted(index % NUM_IMAGES for index in indices) == list(range(NUM_IMAGES))
    assert max(indices) >= NUM_IMAGES
    inputs = torch.cat([inputs for inputs, _, _ in _batches(dataset, sampler)])
    assert torch.equal(inputs, both[indices])


@pytest.mark.parametrize("streamed", [False, True])
def test_processes_share_the_rows(filled: Filled, streamed: bool):
    rows = _streamed(filled, rows_in_memory=8) if streamed else MemoryRows([filled[2]])
    dataset = FeatureDataset(rows, _targets())
    samplers = [
        FeatureSampler(dataset, np.arange(NUM_IMAGES - 2), seed=0, num_processes=3, rank=rank)
        for rank in range(3)
    ]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [13, 13, 13] == [len(sampler) for sampler in samplers]
    together = [index for part in parts for index in part]
    assert set(together) == set(range(NUM_IMAGES - 2))
    assert len(together) - len(set(together)) == 1  # one row fills up the last process


def test_lightning_leaves_the_sampler_in_place(fit: Callable[[FeatureDataset, FeatureSampler], list]):
    dataset = FeatureDataset(MemoryRows([torch.randn(NUM_IMAGES, 3)]), _targets())
    sampler = FeatureSampler(dataset, np.arange(NUM_IMAGES), seed=3)
    seen = fit(dataset, sampler)
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected.append(list(sampler))
    assert seen == expected
    assert seen[0] != seen[1]


@pytest.fixture
def fit() -> Callable[[FeatureDataset, FeatureSampler], list]:
    """Runs two epochs of `Trainer.fit` and returns the image numbers of each."""
    import lightning as L

    class Recorder(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 4)
            self.epochs: list[list[int]] = [[], []]

        def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
            self.epochs[self.current_epoch] += batch[2].tolist()
            return self.layer(batch[0]).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def run(dataset: FeatureDataset, sampler: FeatureSampler) -> list:
        module = Recorder()
        quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        loader = DataLoader(dataset, batch_size=8, sampler=sampler, collate_fn=lambda batch: batch)
        L.Trainer(accelerator="cpu", max_epochs=2, **quiet).fit(module, loader)
        return module.epochs

    return run


@pytest.mark.parametrize("streamed", [False, True])
def test_all_views_of_an_image_come_together(filled: Filled, streamed: bool):
    features = filled[2]
    memory = MemoryRows([features, features.flip(0)])
    rows = _streamed(filled, rows_in_memory=10, views=2) if streamed else memory
    dataset = FeatureDataset(rows, _targets())
    both = AllViews(dataset)
    inputs, labels, images = both.__getitems__([5, 39, 0])
    expected = torch.stack([features[[5, 39, 0]], features.flip(0)[[5, 39, 0]]], dim=1).float()
    assert torch.equal(inputs, expected)
    assert torch.equal(labels, dataset.targets[[5, 39, 0]])
    assert images.tolist() == [5, 39, 0]
    assert len(both) == NUM_IMAGES
