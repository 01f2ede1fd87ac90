"""Features as a dataset for training: whole batches from memory, or from the disk in windows."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlic.features.reader import FeatureReader
from mlic.features.side_by_side import SideBySideReader, widest

Batch = tuple[Tensor, Tensor, Tensor]
Reader = FeatureReader | SideBySideReader


class FeatureRows(Protocol):
    """Where a dataset takes its rows from; those of further views follow those of the first, N each."""

    def __len__(self) -> int:
        """Rows of all views."""
        ...

    def gather(self, indices: Tensor) -> Tensor:
        """Rows (B,) int64 on the CPU -> features float32 (B, *feature_shape)."""
        ...

    def windows(self, rows: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """All `rows` in a new order, in pieces that can be held in memory, one after the other."""
        ...

    def hold(self, window: np.ndarray, following: np.ndarray | None) -> None:
        """Make the rows of a window ready; `following` is the one that will be asked for next."""
        ...


class MemoryRows:
    """Rows in the memory of a device, kept in the number format of the store."""

    def __init__(self, features: Sequence[Tensor], device: torch.device | str = "cpu") -> None:
        """Take the features (N, *feature_shape) of each view to the device."""
        first = features[0].to(device)
        self.features = (
            first if len(features) == 1 else torch.cat([first, *(view.to(device) for view in features[1:])])
        )

    def __len__(self) -> int:
        """Rows of all views."""
        return len(self.features)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows (B,) -> float32 (B, *feature_shape) on the device."""
        return self.features.index_select(0, indices.to(self.features.device)).float()

    def windows(self, rows: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """One window: all rows, shuffled."""
        return [random.permutation(rows)]

    def hold(self, window: np.ndarray, following: np.ndarray | None) -> None:
        """Nothing to do."""


class StreamedRows:
    """Rows on the disk, for sets that do not fit in memory.

    For training, neighbouring rows are read together, as blocks; the blocks are shuffled, as many as fit in
    half of the memory allowed make a window, and the rows of a window are shuffled. Two windows are held at
    most: a batch may begin in one and end in the next. Other rows are read one by one.
    """

    def __init__(self, readers: Sequence[Reader], *, memory_bytes: float, block_bytes: float = 4e6) -> None:
        """Read through the reader of each view.

        Args:
            readers: N rows each.
            memory_bytes: for the rows held.
            block_bytes: read at a time.
        """
        self.readers, self.dtype = list(readers), widest(readers)
        row_bytes = max(reader.row_bytes for reader in readers)
        self.block_rows = max(1, int(block_bytes / row_bytes))
        self.window_blocks = max(1, int(memory_bytes / 2 / row_bytes / self.block_rows))
        self._held: list[tuple[np.ndarray, Tensor]] = []
        self._rank_on_disk: np.ndarray | None = None

    def __len__(self) -> int:
        """Rows of all views."""
        return sum(len(reader) for reader in self.readers)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows (B,) -> float32 (B, *feature_shape) on the CPU."""
        wanted = indices.numpy()
        features = torch.empty((len(wanted), *self.readers[0].feature_shape), dtype=self.dtype)
        absent = np.ones(len(wanted), dtype=bool)
        for held, rows in self._held:
            places = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
            here = absent & (held[places] == wanted)
            features[torch.from_numpy(np.flatnonzero(here))] = rows[torch.from_numpy(places[here])]
            absent &= ~here
        if absent.any():
            features[torch.from_numpy(np.flatnonzero(absent))] = self._read(wanted[absent])
        return features.float()

    def windows(self, rows: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """Shuffled blocks of neighbours on the disk, some to a window, shuffled within it."""
        ordered = rows[np.argsort(self._disk_rank()[rows], kind="stable")]
        blocks = [
            ordered[start : start + self.block_rows] for start in range(0, len(ordered), self.block_rows)
        ]
        order = random.permutation(len(blocks))
        pieces = [
            order[start : start + self.window_blocks] for start in range(0, len(order), self.window_blocks)
        ]
        return [random.permutation(np.concatenate([blocks[block] for block in piece])) for piece in pieces]

    def hold(self, window: np.ndarray, following: np.ndarray | None) -> None:
        """Read a window into memory, let the one before the last go, have the next one read ahead."""
        self._held = self._held[-1:]
        rows = np.unique(window)
        self._held.append((rows, self._read(rows)))
        if following is not None:
            for reader, _, numbers in self._by_view(following):
                reader.announce(numbers)

    def _disk_rank(self) -> np.ndarray:
        if self._rank_on_disk is None:
            offsets = np.cumsum([0] + [len(reader) for reader in self.readers])
            pairs = zip(self.readers, offsets, strict=False)
            order = np.concatenate([reader.disk_order() + offset for reader, offset in pairs])
            self._rank_on_disk = np.empty(len(order), dtype=np.int64)
            self._rank_on_disk[order] = np.arange(len(order))
        return self._rank_on_disk

    def _by_view(self, rows: np.ndarray) -> Iterator[tuple[Reader, np.ndarray, np.ndarray]]:
        """For each view involved: its reader, positions in `rows`, and row numbers in the view."""
        views, numbers = np.divmod(rows, len(self.readers[0]))
        for view in np.unique(views):
            positions = np.flatnonzero(views == view)
            yield self.readers[view], positions, numbers[positions]

    def _read(self, rows: np.ndarray) -> Tensor:
        if len(self.readers) == 1:
            return self.readers[0].gather(rows)
        features = torch.empty((len(rows), *self.readers[0].feature_shape), dtype=self.dtype)
        for reader, positions, numbers in self._by_view(rows):
            features[torch.from_numpy(positions)] = reader.gather(numbers).to(self.dtype)
        return features


class FeatureDataset(Dataset[Batch]):
    """Features, targets and row numbers of N images; gives whole batches.

    For `DataLoader(dataset, batch_size, sampler=..., collate_fn=<identity>)`, without worker processes. Index
    i is image i in its first view; i + N, i + 2 N, ... are its further views, which only `FeatureSampler`
    draws.
    """

    def __init__(self, rows: FeatureRows, targets: np.ndarray | Tensor) -> None:
        """Put rows and targets together.

        Args:
            rows: of all views.
            targets: (N, C), 0 or 1.

        Raises:
            ValueError: numbers of rows that do not fit.
        """
        self.rows = rows
        device = rows.features.device if isinstance(rows, MemoryRows) else torch.device("cpu")
        self.targets = torch.as_tensor(targets, dtype=torch.float32).to(device)
        if not len(self.targets) or len(rows) % len(self.targets):
            raise ValueError(f"{len(rows)} rows of features do not fit {len(self.targets)} rows of targets")
        self.num_views = len(rows) // len(self.targets)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.targets)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Features float32 (B, *feature_shape), targets float32 (B, C), image numbers int64 (B,)."""
        wanted = torch.tensor(indices)
        features = self.rows.gather(wanted)
        images = (wanted if self.num_views == 1 else wanted % len(self)).to(self.targets.device)
        return features, self.targets.index_select(0, images), images

    def __getitem__(self, index: int) -> Batch:
        """One image: features (*feature_shape), targets (C,), image number ()."""
        features, targets, images = self.__getitems__([index])
        return features[0], targets[0], images[0]


class AllViews(Dataset[Batch]):
    """The images of a `FeatureDataset`, each with the features of all its views."""

    def __init__(self, dataset: FeatureDataset) -> None:
        """Look at the same rows."""
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Features float32 (B, views, *feature_shape), targets float32 (B, C), image numbers int64 (B,)."""
        features, targets, images = zip(
            *(
                self.dataset.__getitems__([index + view * len(self) for index in indices])
                for view in range(self.dataset.num_views)
            ),
            strict=True,
        )
        return torch.stack(features, dim=1), targets[0], images[0]
