"""Samplers; the order of training rows is determined by (seed, epoch)."""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import torch.distributed
from torch.utils.data import DistributedSampler, Sampler


def group_size_and_rank() -> tuple[int, int]:
    """Return the number of processes that train together and the rank of this one; (1, 0) without a group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


class EpochSeededSampler(DistributedSampler[int]):
    """Yields a permutation of `rows` in each epoch that a resumed run reproduces.

    It does not use the global generator of torch. It is a `DistributedSampler` so that Lightning calls `set_epoch` at
    the start of each epoch and does not replace it. Each of several processes takes one contiguous part of the order,
    padded with rows from its beginning to equal length.
    """

    def __init__(self, rows: Sequence[int] | np.ndarray, *, seed: int, stride: int = 0) -> None:
        """Create a sampler of `rows` (row numbers of the dataset) that adds `stride * epoch` to each."""
        self.rows, self.stride = np.asarray(rows), stride
        # passed for its length only
        super().__init__(self.rows, *group_size_and_rank(), seed=seed)  # pyright: ignore[reportArgumentType]

    def __len__(self) -> int:
        return ceil(len(self.rows) / self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
        own = order[np.arange(self.rank * len(self), (self.rank + 1) * len(self)) % len(order)]
        return iter((self.rows[own] + self.stride * self.epoch).tolist())


class RowSampler(Sampler[int]):
    """Yields the given rows in order."""

    def __init__(self, rows: Sequence[int] | np.ndarray) -> None:
        self.rows = np.asarray(rows)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())
