"""Training images in a new variant each epoch, drawn from (seed, epoch, row) alone."""

import random

import numpy as np
import torch
from torch.utils.data import Dataset

from mlic.data.image_dataset import ImageDataset, Item


class AugmentedImages(Dataset[Item]):
    """The rows of an `ImageDataset` whose transform draws random numbers; index is `row + epoch * N`.

    An image's variant depends on seed, epoch and row, not on the process that decodes it or on what was drawn before:
    a resumed run sees the same ones. The generators of torch, numpy and `random` are left as they were.
    """

    def __init__(self, images: ImageDataset, *, seed: int) -> None:
        """Vary `images`, by `seed`."""
        self.images, self.seed = images, seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        """Decode and vary one row: see `ImageDataset`."""
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
