"""Batches of decoded images in the order of their paths; one that cannot be decoded is told, not raised."""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mlic.data.images import FULL_BITS, BadImageError, DraftSize, decode
from mlic.data.workers import SharedCollate, start_background_worker, start_worker

Item = tuple[np.ndarray | None, str]
ImageBatch = tuple[Tensor, list[str]]


class DecodedImages(Dataset[Item]):
    """Image and an empty string, or None and what is wrong with the file."""

    def __init__(
        self,
        paths: Sequence[Path | Image.Image],
        transform: Callable[..., np.ndarray],
        draft_size: DraftSize,
        bits_stored: int = FULL_BITS,
    ) -> None:
        """Take what `decode` takes, and a transform from what that gives to uint8 (3, H, W)."""
        self.paths, self.transform = paths, transform
        self.draft_size, self.bits_stored = draft_size, bits_stored

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        """Decode one file."""
        try:
            return self.transform(decode(self.paths[index], self.draft_size, self.bits_stored)), ""
        except BadImageError as error:
            return None, error.reason


class BatchOfImages:
    """Collates to uint8 (B, *image_shape) and the reasons; a file that cannot be used is a black image."""

    def __init__(self, image_shape: tuple[int, ...], size: int | None) -> None:
        """Fill up with black images to `size`, so that no score depends on how many come together."""
        self.image_shape, self.size = image_shape, size

    def __call__(self, items: list[Item]) -> ImageBatch:
        """Put the items of a batch together."""
        images = torch.zeros((self.size or len(items), *self.image_shape), dtype=torch.uint8)
        pixels = images.numpy()
        for position, (image, _) in enumerate(items):
            if image is not None:
                pixels[position] = image
        return images, [reason for _, reason in items]


def image_batches(
    images: DecodedImages, *, batch_size: int, fill: bool, num_workers: int, on_cpu: bool
) -> DataLoader[Any]:
    """ImageBatch after ImageBatch in order, decoded in worker processes; with `fill` all of one size.

    Where the network runs on the same cores (`on_cpu`), decoding has a lower priority and fills the gaps.
    """
    shape = tuple(images.transform(Image.new("RGB", (32, 32))).shape)
    return DataLoader(
        images,
        batch_size,
        num_workers=min(num_workers, ceil(len(images) / batch_size)),
        collate_fn=SharedCollate(BatchOfImages(shape, batch_size if fill else None)),
        worker_init_fn=start_background_worker if on_cpu else start_worker,
        pin_memory=not on_cpu,
    )
