"""Random augmentation of training images, determined by (seed, epoch, row)."""

import random

import numpy as np
import torch
from torch.utils.data import Dataset

from mlic.data.image_dataset import ImageDataset, Item


class AugmentedImages(Dataset[Item]):
    """The rows of an `ImageDataset` whose transform is random; the index is `row + epoch * N`.

    The random variant of an image depends only on seed, epoch and row, not on the worker process or on earlier draws,
    so that a resumed run sees the same variants. The random states of torch, numpy and `random` are restored.
    """

    def __init__(self, images: ImageDataset, *, seed: int) -> None:
        self.images, self.seed = images, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        """Decode and augment one row; see `ImageDataset`."""
        epoch, row = divmod(index, len(self.images))
        drawn = int(np.random.SeedSequence((self.seed, epoch, row)).generate_state(1)[0])
        python_state, numpy_state = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            random.seed(drawn)
            np.random.seed(drawn)
            torch.manual_seed(drawn)
            try:
                return self.images[row]
            finally:
                random.setstate(python_state)
                np.random.set_state(numpy_state)
