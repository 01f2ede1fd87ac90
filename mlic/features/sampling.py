"""Sampler of training rows, determined by (seed, epoch)."""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
from torch.utils.data import DistributedSampler

from mlic.data.sampling import group_size_and_rank
from mlic.features.dataset import FeatureDataset


class FeatureSampler(DistributedSampler[int]):
    """Sampler that yields all rows in a new order each epoch.

    It does not use global generators, and a resumed run reproduces the order. For streamed rows, the order also depends
    on their positions on disk. It is a `DistributedSampler` so that Lightning calls `set_epoch` and does not replace
    it. Each of several processes takes one contiguous part of the order, padded with rows from its beginning to equal
    length.
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        rows: Sequence[int] | np.ndarray,
        *,
        seed: int,
        num_processes: int | None = None,
        rank: int | None = None,
    ) -> None:
        """Create a sampler of `rows` (image numbers of the dataset).

        Args:
            dataset: dataset of the rows.
            rows: rows of the training part.
            seed: determines the order together with the epoch.
            num_processes: number of processes. Default: that of the process group, if there is one.
            rank: rank of this process.
        """
        if num_processes is None or rank is None:
            num_processes, rank = group_size_and_rank()
        super().__init__(dataset, num_processes, rank, shuffle=True, seed=seed)
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
        start, stop = self.rank * len(self), (self.rank + 1) * len(self)
        positions = np.arange(start, stop)
        own = order[positions % len(order)]
        return [piece for piece in np.split(own, np.flatnonzero(np.isin(positions, bounds))) if len(piece)]
