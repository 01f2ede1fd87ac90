"""Reads rows of a store by number, with bounded memory."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mlic.features.shard import DTYPES, DamagedShardError, Shard, ShardLayout

PIECE_BYTES = 4_000_000  # read aside at a time, beside the result


class FeatureReader:
    """Rows of a store by number, read from its shards and checked each time.

    Attributes:
        feature_shape, dtype: of a row, as torch has them; float32 where one row is.
        row_bytes: of a row.
    """

    def __init__(
        self,
        layout: ShardLayout,
        shards: list[Shard],
        shard_numbers: np.ndarray,
        rows: np.ndarray,
        refuse: Callable[[DamagedShardError], None],
    ) -> None:
        """Made by `FeatureStore.reader`: row i lies in shard `shard_numbers[i]` as its row `rows[i]`.

        `refuse` is told of a shard that turns out to be damaged.
        """
        self._shards, self._shard_numbers, self._rows, self._refuse = shards, shard_numbers, rows, refuse
        self.feature_shape = layout.feature_shape
        used = [shards[number].layout for number in np.unique(shard_numbers).tolist()]
        self.layout = layout.wide if layout.wide in used else layout
        self.dtype, self.row_bytes = DTYPES[self.layout.dtype], self.layout.row_bytes

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def disk_order(self) -> np.ndarray:
        """(N,) row numbers in the order in which they lie on the disk."""
        return np.lexsort((self._rows, self._shard_numbers))

    def gather(self, indices: np.ndarray) -> Tensor:
        """Rows by number (m,), in any order -> (m, *feature_shape) in `dtype`.

        Raises:
            DamagedShardError: a shard is damaged or gone; what is lost with it is computed again by another run.
        """
        features = torch.empty((len(indices), *self.feature_shape), dtype=self.dtype)
        step = max(1, PIECE_BYTES // self.row_bytes)
        for shard, positions, rows in self._by_shard(indices):
            first, last = int(positions[0]), int(positions[-1])
            in_place = bool((np.diff(positions) == 1).all())
            try:
                if in_place and shard.layout == self.layout:
                    shard.read(rows, features[first : last + 1])
                    continue
                for start in range(0, len(rows), step):
                    part = slice(start, start + step)
                    features[torch.from_numpy(positions[part])] = shard.read(rows[part]).to(self.dtype)
            except DamagedShardError as error:
                self._refuse(error)
                raise
        return features

    def announce(self, indices: np.ndarray) -> None:
        """Let the system read those rows ahead, in the background."""
        for shard, _, rows in self._by_shard(indices):
            shard.announce(rows)

    def _by_shard(self, indices: np.ndarray) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """For each shard involved: the shard, positions in `indices`, and its rows in ascending order."""
        shard_numbers, rows = self._shard_numbers[indices], self._rows[indices]
        order = np.lexsort((rows, shard_numbers))
        bounds = np.flatnonzero(np.diff(shard_numbers[order])) + 1
        for positions in np.split(order, bounds):
            if len(positions):
                yield self._shards[shard_numbers[positions[0]]], positions, rows[positions]
