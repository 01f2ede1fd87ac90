"""Where rows lie, for millions of them in little memory."""

from collections.abc import Sequence

import numpy as np

from mlic.features.hashing import DIGEST_DTYPE


class RowIndex:
    """Digest -> (shard number, row in it), as sorted arrays; of equal digests the first one counts."""

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        """Index the digests (n,) `S64` of each shard."""
        digests = np.concatenate([np.empty(0, dtype=DIGEST_DTYPE), *shards])
        sizes = [len(shard) for shard in shards]
        order = np.argsort(digests, kind="stable")
        self._digests = digests[order]
        self._shards = np.repeat(np.arange(len(shards), dtype=np.int32), sizes)[order]
        rows = [np.arange(size, dtype=np.int32) for size in sizes]
        self._rows = np.concatenate([np.empty(0, dtype=np.int32), *rows])[order]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._digests)

    def find(self, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard numbers and rows, (N,) each, of digests (N,); -1 where there is none."""
        shards = np.full(len(digests), -1, dtype=np.int32)
        rows = np.full(len(digests), -1, dtype=np.int32)
        if len(self):
            places = np.minimum(np.searchsorted(self._digests, digests), len(self) - 1)
            found = self._digests[places] == digests
            shards[found], rows[found] = self._shards[places[found]], self._rows[places[found]]
        return shards, rows
