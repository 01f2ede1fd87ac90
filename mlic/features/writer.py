"""Writing of rows to a store, one shard at a time."""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlic.features.shard import DTYPES, WIDE, ShardLayout, finite_rows, write_shard

SHARD_BYTES = 64e6
SHARD_SECONDS = 60.0  # a killed process loses at most the work of one minute


class ShardWriter:
    """Collects rows and writes them when they exceed a size or age.

    Rows that overflow the dtype of the store are written to shards of float32.
    """

    def __init__(
        self,
        folder: Path,
        layout: ShardLayout,
        *,
        shard_bytes: float = SHARD_BYTES,
        shard_seconds: float = SHARD_SECONDS,
        machine: str = "",
    ) -> None:
        """Write rows that `machine` computes to the folder of the store; see the constants of the module."""
        self.folder, self.layout = folder, layout
        self.shard_bytes, self.shard_seconds, self.machine = shard_bytes, shard_seconds, machine
        # rows that are not written yet, in the dtype of the store and in float32
        self._narrow: list[tuple[np.ndarray, Tensor]] = []
        self._wide: list[tuple[np.ndarray, Tensor]] = []
        self._last_flush = time.monotonic()

    def add(self, digests: np.ndarray, features: Tensor) -> None:
        """Add rows.

        Args:
            digests: `S64` (n,).
            features: finite rows (n, *feature_shape) on any device, of any dtype.

        Raises:
            ValueError: the shapes do not match.
        """
        if tuple(features.shape) != (len(digests), *self.layout.feature_shape):
            raise ValueError(
                f"features {tuple(features.shape)} for {len(digests)} rows of {self.layout.feature_shape}"
            )
        rows = features.to("cpu", DTYPES[self.layout.dtype])
        fits = finite_rows(rows)
        self._narrow.append((digests[fits.numpy()], rows[fits]))
        self._wide.append((digests[~fits.numpy()], features.cpu()[~fits].to(DTYPES[WIDE])))
        num_bytes = sum(rows.nbytes for _, rows in self._narrow + self._wide)
        if num_bytes >= self.shard_bytes or time.monotonic() - self._last_flush >= self.shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the remaining rows; the caller must call this at the end, even after an error."""
        now, num_rows = time.monotonic(), sum(len(digests) for digests, _ in self._narrow + self._wide)
        for batches in (self._narrow, self._wide):
            digests = [own for own, _ in batches if len(own)]
            if digests:
                names, rows = np.concatenate(digests), torch.cat([own for _, own in batches])
                seconds = (now - self._last_flush) * len(names) / num_rows
                write_shard(self.folder, self.layout, names, rows, seconds, self.machine)
            batches.clear()
        self._last_flush = now
