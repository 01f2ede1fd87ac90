"""Images decoded in worker processes: one data set, one way to make batches, one loader."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from mlic.data.images import FULL_BITS, BadImageError, DraftSize, ImageReference, open_at_sizes
from mlic.data.tars.images import TarImage

PADDING = -1
DECODER_NICENESS = 5

Transform = Callable[..., np.ndarray | Tensor]
Item = tuple[Tensor, int, str]
ImageBatch = tuple[Tensor, Tensor | list[str], Tensor]


class PackedReferences(Sequence[ImageReference]):
    """References in one array of bytes, made again when they are asked for.

    A forked worker process counts references of the Python objects that it touches, and so copies the memory of all of
    them: for a million images some 0.5 GB in each worker.
    """

    def __init__(self, references: Iterable[ImageReference]) -> None:
        """Pack N references."""
        texts = (json.dumps(image if isinstance(image, TarImage) else str(image)) for image in references)
        self.packed = np.array([text.encode() for text in texts], dtype=bytes)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.packed)

    def __getitem__(self, row: int) -> ImageReference:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One reference."""
        content = json.loads(self.packed[row])
        return Path(content) if isinstance(content, str) else TarImage(*content)


class ImageDataset(Dataset[Item]):
    """Rows of (uint8 image (3, H, W), row number, what is wrong).

    An image that cannot be used is an error, or, with `strict=False`, a black image with the row number `PADDING` and
    the reason; another image never takes its place. The row `PADDING` is a black image without a reason.
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
        """Keep what is needed to decode a row.

        Args:
            references: N images.
            transform: what `open_at_sizes` gives -> uint8 (3, H, W), or an ensemble's (P,).
            draft_size: see `open_image`; several of them for a transform that takes several images.
            bits_stored: see `open_image`.
            strict: raise for an image that cannot be used.
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
            BadImageError: the image cannot be used, with `strict`.
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
        """The row in the place of an image that cannot be used."""
        black = Image.new("RGB", (32, 32))
        return torch.from_numpy(np.array(self.transform(black))), PADDING, reason


class CollateImages:
    """Makes a batch, and in a worker process moves its tensors into shared memory; a `collate_fn`.

    Otherwise torch moves them in a background thread of the worker, whose errors reach nobody: with shared memory full
    the loader would wait for that batch forever.
    """

    def __init__(self, targets: Tensor | None = None, fill_to: int = 0) -> None:
        """Add targets (N, C), and fill up with black images to `fill_to`, so that batches have one size."""
        self.targets, self.fill_to = targets, fill_to

    def __call__(self, items: list[Item]) -> ImageBatch:
        """Return images uint8 (B, ...), their targets (or without these the B' reasons), and row numbers int64 (B,).

        Raises:
            RuntimeError: there is no room left in shared memory.
        """
        images = torch.stack([image for image, _, _ in items])
        rows = torch.tensor([row for _, row, _ in items])
        missing = self.fill_to - len(items)
        if missing > 0:
            images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
            rows = F.pad(rows, (0, missing), value=PADDING)
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
    sampler: Sampler[int] | None = None,
    targets: Tensor | None = None,
    fill: bool = False,
    persistent: bool = False,
) -> DataLoader[Any]:
    """Batches as `CollateImages` makes them, decoded in worker processes while the network computes.

    Args:
        dataset: an `ImageDataset`, or one that changes its images.
        batch_size: images a batch.
        num_workers: processes that decode; no more than batches are started.
        on_cpu: the network runs on the same cores: workers have a lower priority, and fill the gaps instead of
            interrupting the network's threads, which wait for each other.
        sampler: rows, by default all in order.
        targets: (N, C), added to the batches.
        fill: fill up the last batch.
        persistent: keep the processes from epoch to epoch.
    """
    count = len(dataset if sampler is None else sampler)  # pyright: ignore[reportArgumentType]
    workers = min(num_workers, ceil(count / batch_size))
    return DataLoader(
        dataset,
        batch_size=batch_size,  # by name: Lightning makes the loader again from its arguments
        sampler=sampler,
        num_workers=workers,
        collate_fn=CollateImages(targets, batch_size if fill else 0),
        worker_init_fn=_lower_priority if on_cpu else None,
        persistent_workers=persistent and workers > 0,
        pin_memory=not on_cpu,
    )


def _lower_priority(worker: int) -> None:
    if hasattr(os, "nice"):
        os.nice(DECODER_NICENESS)
