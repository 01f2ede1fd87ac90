"""Dataset and loader of images that are decoded in worker processes."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from mlic.data.images import FULL_BITS, BadImageError, DraftSize, ImageReference, open_at_sizes
from mlic.data.tar_images import TarImage

PADDING = -1
DECODER_NICENESS = 5

Transform = Callable[..., np.ndarray | Tensor]
Item = tuple[Tensor, int, str]
ImageBatch = tuple[Tensor, Tensor | list[str], Tensor]


class PackedReferences(Sequence[ImageReference]):
    """References stored in one array of bytes and recreated on access.

    Reference counting in a forked worker process writes to every Python object that it touches, and thereby copies
    their memory: about 0.5 GB in each worker for a million images.
    """

    def __init__(self, references: Iterable[ImageReference]) -> None:
        texts = (json.dumps(image if isinstance(image, TarImage) else str(image)) for image in references)
        self.packed = np.array([text.encode() for text in texts], dtype=bytes)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.packed)

    def __getitem__(self, row: int) -> ImageReference:  # pyright: ignore[reportIncompatibleMethodOverride]
        content = json.loads(self.packed[row])
        return Path(content) if isinstance(content, str) else TarImage(*content)


class ImageDataset(Dataset[Item]):
    """Dataset of (uint8 image (3, H, W), row number, reason).

    An unusable image raises an error or, with `strict=False`, becomes a black image with the row number `PADDING` and
    the reason; it is never replaced by another image. The row `PADDING` is a black image with an empty reason.
    """

    def __init__(
        self,
        references: Sequence[ImageReference | Image.Image],
        transform: Transform,
        *,
        draft_size: DraftSize = None,
        bits_stored: int = FULL_BITS,
        strict: bool = True,
    ) -> None:
        """Create the dataset; no image is opened yet.

        Args:
            references: N images.
            transform: maps the result of `open_at_sizes` to uint8 (3, H, W), or (P,) for an ensemble.
            draft_size: see `open_image`; a tuple for a transform that takes several images.
            bits_stored: see `open_image`.
            strict: raise an error for unusable images.
        """
        self.references = references
        if not any(isinstance(reference, Image.Image) for reference in references):
            self.references = PackedReferences(cast("Iterable[ImageReference]", references))
        self.transform = transform
        self.draft_size, self.bits_stored, self.strict = draft_size, bits_stored, strict

    def __len__(self) -> int:
        """Number of images."""
        return len(self.references)

    def __getitem__(self, row: int) -> Item:
        """Decode one row.

        Raises:
            BadImageError: the image cannot be used and `strict` is set.
        """
        if row == PADDING:
            return self.black("")
        try:
            image = open_at_sizes(self.references[row], self.draft_size, self.bits_stored)
        except BadImageError as error:
            if self.strict:
                raise
            return self.black(error.reason)
        # a copy, because the array may be a read-only view of the image's memory
        return torch.from_numpy(np.array(self.transform(image))), int(row), ""

    def black(self, reason: str) -> Item:
        """Return the item that stands for an unusable image."""
        black = Image.new("RGB", (32, 32))
        return torch.from_numpy(np.array(self.transform(black))), PADDING, reason


class CollateImages:
    """A `collate_fn` that makes a batch and, in a worker process, moves its tensors to shared memory.

    By default torch moves them in a background thread of the worker, whose errors are lost: if shared memory were full,
    the loader would wait for the batch forever.
    """

    def __init__(self, targets: Tensor | None = None) -> None:
        """Add targets (N, C) to the batches."""
        self.targets = targets

    def __call__(self, items: list[Item]) -> ImageBatch:
        """Return images uint8 (B, ...), their targets (or the reasons, without targets), and row numbers int64 (B,).

        Raises:
            RuntimeError: shared memory is full.
        """
        images = torch.stack([image for image, _, _ in items])
        rows = torch.tensor([row for _, row, _ in items])
        second = [reason for *_, reason in items] if self.targets is None else self.targets[rows]
        batch = images, second, rows
        if get_worker_info() is not None:
            for part in batch:
                if isinstance(part, Tensor):
                    part.share_memory_()
        return batch


def image_loader(
    dataset: Dataset[Item],
    *,
    batch_size: int,
    num_workers: int,
    on_cpu: bool,
    sampler: Sampler[int] | Sequence[int] | None = None,
    targets: Tensor | None = None,
    persistent: bool = False,
) -> DataLoader[Any]:
    """Return a loader that decodes images in worker processes and collates them with `CollateImages`.

    Args:
        dataset: an `ImageDataset`, or a wrapper of one.
        batch_size: images per batch.
        num_workers: number of worker processes; at most one per batch is started.
        on_cpu: set if the network runs on the same cores. Workers then get a lower priority, so that they do not
            interrupt the threads of the network, which wait for each other.
        sampler: sampler of rows. Default: all rows in order.
        targets: targets (N, C) to add to the batches.
        persistent: keep the worker processes between epochs.
    """
    count = len(dataset if sampler is None else sampler)  # pyright: ignore[reportArgumentType]
    workers = min(num_workers, ceil(count / batch_size))
    return DataLoader(
        dataset,
        batch_size=batch_size,  # as a keyword, because Lightning re-creates loaders from their arguments
        sampler=sampler,
        num_workers=workers,
        collate_fn=CollateImages(targets),
        worker_init_fn=_lower_priority if on_cpu else None,
        persistent_workers=persistent and workers > 0,
        pin_memory=not on_cpu,
    )


def _lower_priority(worker: int) -> None:
    if hasattr(os, "nice"):
        os.nice(DECODER_NICENESS)
