"""Near duplicates: blocks against one product, and copies of photographs against strangers."""

import numpy as np
import pytest
import torch

from mlic.features import near_duplicates
from mlic.features.dataset import MemoryRows
from mlic.features.near_duplicates import (
    count_near_duplicates,
    descriptors,
    near_duplicate_groups,
    similar_pairs,
    whiten,
)


@pytest.fixture
def copied() -> torch.Tensor:
    """Features (150, 40): 50 images of two kinds, and two noisy copies of each; the kinds differ more than images."""
    random = torch.Generator().manual_seed(0)
    kinds = 5 * torch.randn(2, 40, generator=random)
    images = kinds.repeat(25, 1) + torch.randn(50, 40, generator=random)
    return torch.cat([images + 0.1 * torch.randn(50, 40, generator=random) for _ in range(3)])


def test_copies_are_one_group_and_images_of_one_kind_are_not(copied):
    groups = near_duplicate_groups(descriptors(MemoryRows(copied)), 0.6)
    assert (groups.reshape(3, 50) == groups[:50]).all()
    assert len(np.unique(groups)) == 50
    # the plain cosine would join all images of one kind
    plain = torch.nn.functional.normalize(copied)
    assert len(np.unique(near_duplicate_groups(plain, 0.6))) == 2


def test_blocks_find_the_pairs_of_one_product(copied, monkeypatch):
    vectors = whiten(copied)
    expected = torch.triu(vectors @ vectors.T >= 0.3, diagonal=1).nonzero().numpy()
    groups = near_duplicate_groups(vectors, 0.3)
    monkeypatch.setattr(near_duplicates, "BLOCK_ROWS", 7)
    pairs = np.concatenate([pairs for pairs, _ in similar_pairs(vectors, 0.3)])
    np.testing.assert_array_equal(pairs[np.lexsort(pairs.T[::-1])], expected)
    np.testing.assert_array_equal(near_duplicate_groups(vectors, 0.3), groups)
    rows = np.arange(0, 150, 4)
    others = np.setdiff1d(np.arange(150), rows)
    near = (vectors[rows] @ vectors[others].T >= 0.3).any(dim=1).sum()
    assert count_near_duplicates(vectors, rows, others, 0.3) == near


def test_maps_are_averaged_also_when_they_are_flattened(copied):
    maps = copied[:, :, None, None] + torch.tensor([-1.0, 0.0, 0.0, 1.0]).view(1, 1, 2, 2)
    expected = descriptors(MemoryRows(copied))
    torch.testing.assert_close(descriptors(MemoryRows(maps)), expected, atol=1e-4, rtol=0)
    flat = descriptors(MemoryRows(maps.flatten(1)), channels=40)
    torch.testing.assert_close(flat, expected, atol=1e-4, rtol=0)
    assert whiten(torch.ones(1, 8)).isfinite().all() and whiten(torch.ones(5, 8)).isfinite().all()
