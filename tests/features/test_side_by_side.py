"""The features of several backbones as one row an image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mlic.features import CachedFeatures, FeatureStore
from mlic.features.dataset import AllViews, MemoryRows, StreamedRows
from mlic.features.side_by_side import SideBySideReader
from mlic.models import EnsembleBackbone

NUM_IMAGES = 24


@pytest.fixture
def stores(
    make_store: Callable[..., FeatureStore], numbered: Callable[..., np.ndarray]
) -> list[tuple[FeatureStore, Tensor]]:
    """Two stores of the same images in different orders, and their rows in the order of the images."""
    found = []
    for number, shape in enumerate([(3,), (2, 2, 2)]):
        store = make_store(shape, member=number)
        rows = torch.randn(NUM_IMAGES, *shape, generator=torch.Generator().manual_seed(number))
        order = np.random.default_rng(number).permutation(NUM_IMAGES)
        with store.lock():
            for part in np.split(order, 3):
                with store.writer() as writer:
                    writer.add(numbered(NUM_IMAGES)[part], rows[torch.from_numpy(part)])
        store.refresh()
        found.append((store, rows))
    return found


def test_rows_are_those_of_the_members(
    stores: list[tuple[FeatureStore, Tensor]], numbered: Callable[..., np.ndarray]
):
    readers = [store.reader(numbered(NUM_IMAGES)) for store, _ in stores]
    reader = SideBySideReader(readers)
    expected = torch.cat([rows.flatten(1) for _, rows in stores], dim=1)
    assert (len(reader), reader.feature_shape, reader.row_bytes) == (NUM_IMAGES, (11,), 44)
    indices = np.array([5, 0, 23, 5])
    assert torch.equal(reader.gather(indices), expected[torch.from_numpy(indices)])
    assert reader.disk_order().tolist() == readers[1].disk_order().tolist(), "the larger rows lead"


def test_streamed_windows_hold_every_row_once(
    stores: list[tuple[FeatureStore, Tensor]], numbered: Callable[..., np.ndarray]
):
    reader = SideBySideReader([store.reader(numbered(NUM_IMAGES)) for store, _ in stores])
    expected = torch.cat([rows.flatten(1) for _, rows in stores], dim=1)
    rows = StreamedRows([reader], memory_bytes=12 * 44, block_bytes=2 * 44)
    windows = rows.windows(np.arange(20), np.random.default_rng(0))
    assert len(windows) > 2
    assert sorted(np.concatenate(windows)) == list(range(20))
    for number, window in enumerate(windows):
        rows.hold(window, windows[number + 1] if number + 1 < len(windows) else None)
        assert torch.equal(rows.gather(torch.from_numpy(window)), expected[torch.from_numpy(window)])


@pytest.mark.parametrize("views", [1, 2])
def test_an_ensemble_serves_the_stores_of_its_members(images: list[Path], tmp_path: Path, views: int):
    torch.manual_seed(0)
    members = [{"name": "test_efficientnet", "image_size": 64}, {"name": "test_resnet", "image_size": 96}]
    ensemble = EnsembleBackbone(members, pretrained=False, precision="float32")

    def source(backbone: object, **options: object) -> CachedFeatures:
        settings: dict = {
            "batch_size": 4,
            "num_workers": 0,
            "trainer": {"accelerator": "cpu"},
            "views": views,
        }
        made = CachedFeatures(backbone, directory=tmp_path / "store", **settings | options)  # pyright: ignore
        made.extract(images)
        return made

    alone = source(ensemble.members[1], draft_size=ensemble.resize_size[1])
    assert (alone.result.found, alone.result.computed) == (0, 10 * views)
    together = source(ensemble, draft_size=ensemble.resize_size)
    assert (together.result.found, together.result.computed) == (10 * views, 10 * views)
    streamed = source(ensemble, draft_size=ensemble.resize_size, memory_gb=1e-8)
    assert (streamed.result.found, streamed.result.computed) == (20 * views, 0)
    targets = np.eye(10)
    datasets = [made.dataset(images, targets) for made in (together, streamed)]
    assert [type(dataset.rows) for dataset in datasets] == [MemoryRows, StreamedRows]
    indices = list(range(10 * views))
    features, other = (dataset.__getitems__(indices)[0] for dataset in datasets)
    assert torch.equal(features, other)
    width = ensemble.members[0].feature_shape[0]
    expected = alone.dataset(images, targets).__getitems__(indices)[0]
    assert torch.equal(features[:, width:], expected)
    served = together.evaluation_dataset()
    assert served.__getitems__([3])[0].shape == (
        (1, *ensemble.feature_shape) if views == 1 else (1, 2, *ensemble.feature_shape)
    )
    assert isinstance(served, AllViews) == (views == 2)


def test_broken_images_are_told_once(images: list[Path], tmp_path: Path):
    torch.manual_seed(0)
    members = [{"name": "test_efficientnet", "image_size": size} for size in (32, 64)]
    ensemble = EnsembleBackbone(members, pretrained=False, precision="float32")
    images[2].write_bytes(images[2].read_bytes()[:200])
    made = CachedFeatures(ensemble, directory=tmp_path, num_workers=0, trainer={"accelerator": "cpu"})
    assert list(made.extract(images)) == [images[2]]
    assert (made.result.found, made.result.computed) == (0, 18)
