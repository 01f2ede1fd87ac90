"""Image files as a torch data set that replaces no bad image."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from mlic.data.images import load_image


class ImageDataset(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Rows of (uint8 image (3, H, W), float32 targets (C,), row number)."""

    def __init__(
        self,
        paths: Sequence[Path],
        targets: np.ndarray,
        transform: Callable[[Image.Image], np.ndarray],
        *,
        draft_size: int | None = None,
    ) -> None:
        """Keep what is needed to decode a row.

        Args:
            paths: N image files.
            targets: (N, C) of 0 and 1.
            transform: RGB image -> uint8 (3, H, W).
            draft_size: see `load_image`.

        Raises:
            ValueError: another number of paths than of targets.
        """
        if len(paths) != len(targets):
            raise ValueError(f"{len(paths)} paths, but {len(targets)} rows of targets")
        self.paths, self.transform, self.draft_size = list(paths), transform, draft_size
        self.targets = torch.as_tensor(np.asarray(targets, dtype=np.float32))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Decode one row.

        Raises:
            BadImageError: the file cannot be used; no other image takes its place.
        """
        image = load_image(self.paths[row], draft_size=self.draft_size)
        # a copy, because the array may be a read-only view of the image's memory
        return torch.from_numpy(np.array(self.transform(image))), self.targets[row], int(row)
