import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlic.data.augmentation import AugmentedImages
from mlic.data.image_dataset import ImageDataset
from mlic.data.sampling import EpochSeededSampler


def noisy(image: Image.Image) -> np.ndarray:
    """Draws from all three generators, as timm's transforms do."""
    values = np.asarray(image).transpose(2, 0, 1).astype(int)
    values = values + np.random.randint(20) + random.randrange(20) + int(torch.randint(20, ()))
    return values.clip(0, 255).astype(np.uint8)


@pytest.fixture
def augmented(tiny_csv: tuple[Path, Path]) -> AugmentedImages:
    paths = sorted(tiny_csv[1].glob("*.jpg"))[:8]
    return AugmentedImages(ImageDataset(paths, noisy), seed=3)


def test_variants_depend_on_epoch_and_row_alone(augmented: AugmentedImages):
    first = [augmented[row + 8 * epoch][0] for epoch in range(3) for row in range(8)]
    torch.manual_seed(99)
    random.seed(99)
    before = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    again = [augmented[row + 8 * epoch][0] for epoch in reversed(range(3)) for row in reversed(range(8))]
    assert before == (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    assert all(torch.equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    assert len({tuple(image[:, 0, 0].tolist()) for image in first[0::8]}) > 1
    other_seed = AugmentedImages(augmented.images, seed=4)
    assert any(not torch.equal(other_seed[row][0], augmented[row][0]) for row in range(8))
    assert augmented[5 + 16][1:] == (5, "")


def test_the_sampler_tells_the_epoch():
    sampler = EpochSeededSampler([1, 4, 6], seed=0, stride=10)
    sampler.set_epoch(2)
    assert sorted(sampler) == [21, 24, 26]
    plain = EpochSeededSampler([1, 4, 6], seed=0)
    plain.set_epoch(2)
    assert [index - 20 for index in sampler] == list(plain)
