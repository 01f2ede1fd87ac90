"""Rows of several stores as one: the features of several backbones for the same images."""

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np
import torch
from torch import Tensor

from mlic.features.reader import FeatureReader


class SideBySideReader:
    """Equivalent to a `FeatureReader` whose rows are those of its members, flattened, one after the other.

    Attributes:
        feature_shape, dtype: of a row, as torch has them.
        row_bytes: of a row.
    """

    def __init__(self, members: Sequence[FeatureReader]) -> None:
        """Take readers of the same N images in the same order; their widest dtype is that of all."""
        self.members = list(members)
        self.widths = [prod(member.feature_shape) for member in self.members]
        self.feature_shape = (sum(self.widths),)
        self.dtype = widest(self.members)
        self.row_bytes = self.feature_shape[0] * self.dtype.itemsize

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.members[0])

    def disk_order(self) -> np.ndarray:
        """(N,) row numbers in the order of the member with the largest rows: its are the most bytes to read."""
        return max(self.members, key=lambda member: member.row_bytes).disk_order()

    def gather(self, indices: np.ndarray) -> Tensor:
        """Rows by number (m,), in any order -> (m, *feature_shape).

        Raises:
            DamagedShardError: as of `FeatureReader.gather`.
        """
        # member by member into one tensor: at most one of them is held twice
        features = torch.empty((len(indices), *self.feature_shape), dtype=self.dtype)
        for member, part in zip(self.members, features.split(self.widths, dim=1), strict=True):
            part.copy_(member.gather(indices).flatten(1))
        return features

    def announce(self, indices: np.ndarray) -> None:
        """Let the system read those rows ahead, in the background."""
        for member in self.members:
            member.announce(indices)


def widest(readers: Sequence["FeatureReader | SideBySideReader"]) -> torch.dtype:
    """The dtype that holds the rows of all."""
    return reduce(torch.promote_types, (reader.dtype for reader in readers))
