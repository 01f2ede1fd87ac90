"""Images and their order in extraction."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from mlic.data.image_dataset import PADDING, ImageDataset, Item, Transform
from mlic.data.images import ImageReference
from mlic.features.hashing import state_of


class HashedImages(ImageDataset):
    """Images that are unchanged since they were hashed; others are black images with the row number `PADDING`."""

    def __init__(
        self,
        references: Sequence[ImageReference],
        states: np.ndarray,
        transform: Transform,
        draft_size: int | None,
        bits_stored: int,
    ) -> None:
        """Create a dataset from the result of `hash_files`.

        Args:
            references: N images.
            states: size, mtime and ctime (N, 3) when they were hashed.
            transform: maps a PIL image to uint8 (3, H, W).
            draft_size: see `mlic.data.open_image`.
            bits_stored: see `mlic.data.open_image`.
        """
        super().__init__(references, transform, draft_size=draft_size, bits_stored=bits_stored, strict=False)
        self.states = states

    def __getitem__(self, row: int) -> Item:
        """Decode one row."""
        item = super().__getitem__(row)
        if item[1] == PADDING:
            return item
        try:
            is_same = state_of(self.references[row]) == tuple(self.states[row].tolist())  # pyright: ignore[reportArgumentType]
        except OSError:
            is_same = False
        return item if is_same else self.black("it changed while it was read")


class RankSampler(Sampler[int]):
    """Yields every n-th image for one of n processes, each image once, without padding or repetition.

    A process without images gets one index of padding, so that it takes part in collective operations.
    """

    def __init__(self, num_images: int, rank: int, num_processes: int) -> None:
        """Select the images of process `rank` from `num_images`."""
        own = range(rank, num_images, num_processes)
        self.indices: Sequence[int] = own if len(own) else [PADDING]

    def __len__(self) -> int:
        """Return the number of indices."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices in ascending order."""
        return iter(self.indices)
