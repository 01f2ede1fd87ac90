"""Image files as a torch data set that replaces no bad image."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from mlic.data.images import FULL_BITS, DraftSize, decode


class ImageDataset(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Rows of (uint8 image (3, H, W), float32 targets (C,), row number)."""

    def __init__(
        self,
        paths: Sequence[Path],
        targets: np.ndarray,
        transform: Callable[..., np.ndarray],
        *,
        draft_size: DraftSize = None,
        bits_stored: int = FULL_BITS,
    ) -> None:
        """Keep what is needed to decode a row.

        Args:
            paths: N image files.
            targets: (N, C) of 0 and 1.
            transform: what `decode` gives -> uint8 (3, H, W), or an ensemble's (P,).
            draft_size: see `load_image`; several of them for a transform that takes several images.
            bits_stored: see `load_image`.

        Raises:
            ValueError: another number of paths than of targets.
        """
        if len(paths) != len(targets):
            raise ValueError(f"{len(paths)} paths, but {len(targets)} rows of targets")
        self.paths, self.transform, self.draft_size = paths, transform, draft_size
        self.bits_stored = bits_stored
        self.targets = torch.as_tensor(np.asarray(targets, dtype=np.float32))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Decode one row.

        Raises:
            BadImageError: the file cannot be used; no other image takes its place.
        """
        image = decode(self.paths[row], self.draft_size, self.bits_stored)
        # a copy, because the array may be a read-only view of the image's memory
        return torch.from_numpy(np.array(self.transform(image))), self.targets[row], int(row)
