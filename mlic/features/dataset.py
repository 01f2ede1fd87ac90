"""Features for training: readers of stored rows, and datasets that serve them from memory or stream them from disk."""

from collections.abc import Iterator, Sequence
from functools import reduce
from math import ceil, prod

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from mlic.data.sampling import group_size_and_rank

Batch = tuple[Tensor, Tensor, Tensor]

BLOCK_BYTES = 4e6


class FeatureReader:
    """Reader of the rows of one store.

    Attributes:
        feature_shape, dtype: shape and dtype of a row; float32 if one of the rows is.
        row_bytes: size of a row in bytes.
    """

    def __init__(
        self,
        shards: Sequence[Tensor],
        shard_numbers: np.ndarray,
        rows: np.ndarray,
        *,
        feature_shape: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        """Row i is row `rows[i]` of `shards[shard_numbers[i]]`, both int (N,); `dtype` is that of the store."""
        self._shards, self._shard_numbers, self._rows = shards, shard_numbers, rows
        used = [shards[number].dtype for number in np.unique(shard_numbers).tolist()]
        self.feature_shape, self.dtype = feature_shape, reduce(torch.promote_types, used, dtype)
        self.row_bytes = prod(feature_shape) * self.dtype.itemsize

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def disk_order(self) -> np.ndarray:
        """Return row numbers (N,) in the order on the disk."""
        return np.lexsort((self._rows, self._shard_numbers))

    def gather(self, indices: np.ndarray) -> Tensor:
        """Return rows by number (m,), in any order, as (m, *feature_shape) in `dtype`."""
        features = torch.empty((len(indices), *self.feature_shape), dtype=self.dtype)
        shard_numbers, rows = self._shard_numbers[indices], self._rows[indices]
        # shard by shard, and in the order of the file
        order = np.lexsort((rows, shard_numbers))
        bounds = np.flatnonzero(np.diff(shard_numbers[order])) + 1
        for positions in np.split(order, bounds) if len(order) else []:
            shard = self._shards[int(shard_numbers[positions[0]])]
            features[torch.from_numpy(positions)] = shard[torch.from_numpy(rows[positions])].to(self.dtype)
        return features


class ConcatenatedReader:
    """Reader that concatenates the flattened rows of several stores of the same images.

    Attributes:
        feature_shape, dtype: shape and dtype of a row; the widest dtype of the members.
        row_bytes: size of a row in bytes.
    """

    def __init__(self, members: Sequence[FeatureReader]) -> None:
        """Concatenate readers of the same N images in the same order."""
        self.members = list(members)
        self.widths = [prod(member.feature_shape) for member in self.members]
        self.feature_shape = (sum(self.widths),)
        self.dtype = reduce(torch.promote_types, (member.dtype for member in self.members))
        self.row_bytes = self.feature_shape[0] * self.dtype.itemsize

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.members[0])

    def disk_order(self) -> np.ndarray:
        """Return row numbers (N,) in the order of the member with the largest rows, which takes longest to read."""
        return max(self.members, key=lambda member: member.row_bytes).disk_order()

    def gather(self, indices: np.ndarray) -> Tensor:
        """Return rows by number (m,), in any order, as (m, *feature_shape) in `dtype`."""
        # member by member into one tensor, so that only one of them is in memory twice
        features = torch.empty((len(indices), *self.feature_shape), dtype=self.dtype)
        for member, part in zip(self.members, features.split(self.widths, dim=1), strict=True):
            part.copy_(member.gather(indices).flatten(1))
        return features


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

    def __init__(
        self,
        reader: FeatureReader | ConcatenatedReader,
        *,
        memory_bytes: float,
        block_bytes: float = BLOCK_BYTES,
    ) -> None:
        """Read N rows with a reader; two windows of blocks of `block_bytes` take `memory_bytes`."""
        self.reader = reader
        self.block_rows = max(1, int(block_bytes / reader.row_bytes))
        self.window_blocks = max(1, int(memory_bytes / 2 / reader.row_bytes / self.block_rows))
        self._loaded: list[tuple[np.ndarray, Tensor]] = []
        self._rank_on_disk = np.argsort(reader.disk_order())

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


class FeatureSampler(DistributedSampler[int]):
    """Sampler that yields all rows in a new order each epoch.

    It does not use global generators, and a resumed run reproduces the order. For streamed rows, the order also depends
    on their positions on disk. It is a `DistributedSampler` so that Lightning calls `set_epoch` and does not replace
    it. Each of several processes takes one contiguous part of the order, padded with rows from its beginning to equal
    length.
    """

    def __init__(self, dataset: FeatureDataset, rows: Sequence[int] | np.ndarray, *, seed: int) -> None:
        """Create a sampler of `rows` (image numbers of the dataset).

        Args:
            dataset: dataset of the rows.
            rows: rows of the training part.
            seed: determines the order together with the epoch.
        """
        super().__init__(dataset, *group_size_and_rank(), shuffle=True, seed=seed)
        self.features, self.image_rows = dataset, np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of rows of this process."""
        return ceil(len(self.image_rows) / self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        """Yield image numbers of the dataset."""
        random = np.random.default_rng((self.seed, self.epoch))
        for window in self._own_part(self.features.rows.windows(self.image_rows, random)):
            self.features.rows.load_window(window)
            yield from window.tolist()

    def _own_part(self, windows: list[np.ndarray]) -> list[np.ndarray]:
        if self.num_replicas == 1:
            return windows
        order = np.concatenate(windows)
        bounds = np.cumsum([len(window) for window in windows])
        positions = np.arange(self.rank * len(self), (self.rank + 1) * len(self))
        own = order[positions % len(order)]
        return [piece for piece in np.split(own, np.flatnonzero(np.isin(positions, bounds))) if len(piece)]
