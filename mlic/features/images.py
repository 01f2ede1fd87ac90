"""Batches of decoded images of one fixed size, for extraction."""

import os
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mlic.data.images import FULL_BITS, BadImageError, load_image
from mlic.data.workers import SharedCollate, start_background_worker, start_worker
from mlic.features.hashing import state_of
from mlic.tars.members import read_ahead

PADDING = -1

Transform = Callable[[Image.Image], np.ndarray | Tensor]
ImageBatch = tuple[Tensor, Tensor]
Item = tuple[int, np.ndarray | Tensor | None]


class HashedImages(Dataset[Item]):
    """Images by number, decoded; None for one that cannot be decoded or is not what was hashed."""

    def __init__(
        self,
        paths: Sequence[Path],
        states: np.ndarray,
        transform: Transform,
        draft_size: int | None,
        bits_stored: int = FULL_BITS,
    ) -> None:
        """Take what `hash_files` found.

        Args:
            paths: N files.
            states: (N, 3), their size, mtime and ctime when they were hashed.
            transform: PIL image -> uint8 (3, H, W).
            draft_size: see `mlic.data.images.load_image`.
            bits_stored: likewise.
        """
        # bytes in one array: worker processes would copy millions of Python strings as they count references
        self.names = np.array([os.fsencode(path) for path in paths], dtype=bytes)
        self.states, self.transform = states, transform
        self.draft_size, self.bits_stored = draft_size, bits_stored
        self.image_shape = tuple(transform(Image.new("RGB", (32, 32))).shape)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> Item:
        """(number, uint8 (3, H, W)), or (PADDING, None) when there is no such image."""
        if index == PADDING:
            return PADDING, None
        path = Path(os.fsdecode(self.names[index]))
        try:
            decoded = load_image(path, draft_size=self.draft_size, bits_stored=self.bits_stored)
            image = self.transform(decoded)
            unchanged = state_of(path) == tuple(self.states[index].tolist())
        except (BadImageError, OSError):
            return PADDING, None
        return (index, image) if unchanged else (PADDING, None)

    def __getitems__(self, indices: list[int]) -> list[Item]:
        """A batch; of remote tar shards, what lies together is fetched in one request."""
        read_ahead(os.fsdecode(self.names[index]) for index in indices if index != PADDING)
        return [self[index] for index in indices]


class FixedBatch:
    """Collates images into batches of one fixed size, so that no result depends on how many come together."""

    def __init__(self, batch_size: int, image_shape: tuple[int, ...]) -> None:
        """Fill up with black images to `batch_size`."""
        self.batch_size, self.image_shape = batch_size, image_shape

    def __call__(self, items: list[Item]) -> ImageBatch:
        """(number, image) pairs -> numbers int64 (B,), PADDING for none, and images uint8 (B, 3, H, W)."""
        numbers = torch.full((self.batch_size,), PADDING)
        images = torch.zeros((self.batch_size, *self.image_shape), dtype=torch.uint8)
        pixels = images.numpy()
        for position, (number, image) in enumerate(items):
            if image is not None:
                numbers[position] = number
                pixels[position] = image
        return numbers, images


class RankSampler(Sampler[int]):
    """Every n-th image for one of n processes: each image once, nothing padded or repeated.

    A process left without any gets one index of padding: it then takes part in what all processes do
    together.
    """

    def __init__(self, num_images: int, rank: int, num_processes: int) -> None:
        """Of `num_images` those of process `rank`."""
        own = range(rank, num_images, num_processes)
        self.indices: Sequence[int] = own if len(own) else [PADDING]

    def __len__(self) -> int:
        """Number of indices."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """The indices, ascending."""
        return iter(self.indices)


def image_loader(
    images: HashedImages, sampler: RankSampler, *, batch_size: int, num_workers: int, on_cpu: bool
) -> DataLoader[Any]:
    """Batches (numbers, images), decoded in worker processes while the network computes.

    Where the network runs on the same cores (`on_cpu`), the workers have a lower priority; the lowest gains nothing
    more, and starves beside other programs.
    """
    num_batches = ceil(len(sampler) / batch_size)
    return DataLoader(
        images,
        batch_size=batch_size,  # by name: Lightning makes the loader again from its arguments
        sampler=sampler,
        num_workers=min(num_workers, num_batches),
        collate_fn=SharedCollate(FixedBatch(batch_size, images.image_shape)),
        worker_init_fn=start_background_worker if on_cpu else start_worker,
        pin_memory=not on_cpu,
    )
