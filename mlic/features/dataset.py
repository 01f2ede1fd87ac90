"""Datasets of features: whole batches from memory, or streamed from disk in windows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlic.features.reader import Reader

Batch = tuple[Tensor, Tensor, Tensor]

BLOCK_BYTES = 4e6


class MemoryRows:
    """Rows in the memory of a device in the dtype of the store."""

    def __init__(self, features: Tensor, device: torch.device | str = "cpu") -> None:
        """Move features (N, *feature_shape) to the device."""
        self.features = features.to(device)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.features)

    def gather(self, indices: Tensor) -> Tensor:
        """Return the rows (B,), int64 on the CPU, as float32 (B, *feature_shape) on the device."""
        return self.features.index_select(0, indices.to(self.features.device)).float()

    def windows(self, rows: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """Return one window: all rows, shuffled."""
        return [random.permutation(rows)]

    def load_window(self, window: np.ndarray) -> None:
        """Do nothing: all rows are in memory."""


class StreamedRows:
    """Rows on disk, for data sets that do not fit in memory.

    For training, neighbouring rows are read together as blocks. The blocks are shuffled and grouped to windows of half
    of the allowed memory, and the rows of each window are shuffled. At most two windows are in memory, because a batch
    may begin in one and end in the next. Other rows are read one by one.
    """

    def __init__(self, reader: Reader, *, memory_bytes: float, block_bytes: float = BLOCK_BYTES) -> None:
        """Read N rows with a reader; two windows of blocks of `block_bytes` take `memory_bytes`."""
        self.reader = reader
        self.block_rows = max(1, int(block_bytes / reader.row_bytes))
        self.window_blocks = max(1, int(memory_bytes / 2 / reader.row_bytes / self.block_rows))
        self._loaded: list[tuple[np.ndarray, Tensor]] = []
        self._rank_on_disk: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.reader)

    def gather(self, indices: Tensor) -> Tensor:
        """Return the rows (B,), int64 on the CPU, as float32 (B, *feature_shape) on the CPU."""
        wanted = indices.numpy()
        features = torch.empty((len(wanted), *self.reader.feature_shape))
        absent = np.ones(len(wanted), dtype=bool)
        for rows, loaded in self._loaded:
            positions = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
            here = absent & (rows[positions] == wanted)
            features[torch.from_numpy(here)] = loaded[torch.from_numpy(positions[here])].float()
            absent &= ~here
        if absent.any():
            features[torch.from_numpy(absent)] = self.reader.gather(wanted[absent]).float()
        return features

    def windows(self, rows: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """Return all `rows` in a new order, as windows of shuffled blocks; blocks are neighbours on the disk."""
        if self._rank_on_disk is None:
            self._rank_on_disk = np.argsort(self.reader.disk_order())
        ordered = rows[np.argsort(self._rank_on_disk[rows], kind="stable")]
        blocks = np.split(ordered, range(self.block_rows, len(ordered), self.block_rows))
        order = random.permutation(len(blocks))
        pieces = np.split(order, range(self.window_blocks, len(order), self.window_blocks))
        return [random.permutation(np.concatenate([blocks[block] for block in piece])) for piece in pieces]

    def load_window(self, window: np.ndarray) -> None:
        """Read a window into memory, and release the one before the last."""
        self._loaded = self._loaded[-1:]
        rows = np.unique(window)
        self._loaded.append((rows, self.reader.gather(rows)))


FeatureRows = MemoryRows | StreamedRows


class FeatureDataset(Dataset[Batch]):
    """Dataset of features, targets and row numbers of N images, which returns whole batches.

    For `DataLoader(dataset, batch_size, sampler=..., collate_fn=<identity>)`, without worker processes.
    """

    def __init__(self, rows: FeatureRows, targets: np.ndarray | Tensor) -> None:
        """Combine N rows and targets (N, C) of 1, 0 and -1 (unknown).

        Raises:
            ValueError: their numbers differ or are 0.
        """
        self.rows = rows
        device = rows.features.device if isinstance(rows, MemoryRows) else torch.device("cpu")
        self.targets = torch.as_tensor(targets, dtype=torch.float32).to(device)
        if not len(rows) or len(rows) != len(self.targets):
            raise ValueError(f"{len(rows)} rows of features do not fit {len(self.targets)} rows of targets")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return features float32 (B, *feature_shape), targets float32 (B, C) and image numbers int64 (B,)."""
        wanted = torch.tensor(indices)
        images = wanted.to(self.targets.device)
        return self.rows.gather(wanted), self.targets.index_select(0, images), images

    def __getitem__(self, index: int) -> Batch:
        """Return features (*feature_shape), targets (C,) and number () of one image."""
        features, targets, images = self.__getitems__([index])
        return features[0], targets[0], images[0]
