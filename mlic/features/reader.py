"""Readers of rows by number."""

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np
import torch
from torch import Tensor

from mlic.features.shard import Shard


class FeatureReader:
    """Reader of the rows of one store.

    Attributes:
        feature_shape, dtype: shape and dtype of a row; float32 if one of the rows is.
        row_bytes: size of a row in bytes.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        shard_numbers: np.ndarray,
        rows: np.ndarray,
        *,
        feature_shape: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        """Row i is row `rows[i]` of shard `shard_numbers[i]`, both int (N,); `dtype` is that of the store."""
        self._shards, self._shard_numbers, self._rows = shards, shard_numbers, rows
        used = [shards[number].features.dtype for number in np.unique(shard_numbers).tolist()]
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
            found = shard.features[torch.from_numpy(rows[positions])]
            features[torch.from_numpy(positions)] = found.to(self.dtype)
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


Reader = FeatureReader | ConcatenatedReader
