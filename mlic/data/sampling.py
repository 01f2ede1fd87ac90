"""The order of training rows, from (seed, epoch) alone."""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import torch.distributed
from torch.utils.data import DistributedSampler, Sampler


def group_size_and_rank() -> tuple[int, int]:
    """Processes that train together, and the number of this one; (1, 0) for one by itself."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


class EpochSeededSampler(DistributedSampler[int]):
    """A permutation of `rows` for each epoch, which a resumed run repeats.

    It draws nothing from torch's global generator. A `DistributedSampler`, so that Lightning calls `set_epoch` at the
    start of each epoch and leaves it in place: of several processes each takes one stretch of the order, filled up with
    rows of its beginning to equal lengths.
    """

    def __init__(self, rows: Sequence[int] | np.ndarray, *, seed: int, stride: int = 0) -> None:
        """Shuffle `rows` (row numbers of the dataset) anew each epoch; add `stride * epoch` to each."""
        self.rows, self.stride = np.asarray(rows), stride
        # for its length alone
        super().__init__(self.rows, *group_size_and_rank(), seed=seed)  # pyright: ignore[reportArgumentType]

    def __len__(self) -> int:
        """Number of rows of this process."""
        return ceil(len(self.rows) / self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        """Row numbers in the order of the epoch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
        own = order[np.arange(self.rank * len(self), (self.rank + 1) * len(self)) % len(order)]
        return iter((self.rows[own] + self.stride * self.epoch).tolist())


class RowSampler(Sampler[int]):
    """Given rows in their order."""

    def __init__(self, rows: Sequence[int] | np.ndarray) -> None:
        """Keep the row numbers."""
        self.rows = np.asarray(rows)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        """Row numbers as given."""
        return iter(self.rows.tolist())
