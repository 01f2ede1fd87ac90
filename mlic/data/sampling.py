"""The order of training rows, from (seed, epoch) alone."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class EpochSeededSampler(Sampler[int]):
    """A permutation of `rows` for each epoch, which a resumed run repeats.

    It draws nothing from torch's global generator; Lightning calls `set_epoch` at the start of each epoch.
    """

    def __init__(self, rows: Sequence[int] | np.ndarray, *, seed: int, stride: int = 0) -> None:
        """Shuffle `rows` (row numbers of the dataset) anew each epoch; add `stride * epoch` to each."""
        self.rows, self.seed, self.stride, self.epoch = np.asarray(rows), seed, stride, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        """Row numbers in the order of the epoch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
        return iter((self.rows[order] + self.stride * self.epoch).tolist())


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
