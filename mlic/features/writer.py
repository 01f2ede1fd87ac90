"""Adds rows to a store, a shard at a time."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from mlic.features.shard import DTYPES, WIDE, ShardLayout, finite_rows, write_shard

logger = logging.getLogger(__name__)


class ShardWriter:
    """Collects rows and closes a shard when it is large or old: a kill costs only the one in hand.

    A context manager; leaving it writes what is in hand, after an error too. Shards are written in a thread,
    while the next rows are computed. Rows that overflow the format of the store go into shards of float32.
    """

    def __init__(self, folder: Path, layout: ShardLayout, *, shard_mb: float, shard_seconds: float) -> None:
        """Write to `folder`.

        Args:
            folder: of the store.
            layout: of the store.
            shard_mb: size in 10^6 bytes at which a shard is closed.
            shard_seconds: age of a shard's first row at which it is closed.
        """
        self.folder, self.layout = folder, layout
        self.shard_bytes, self.shard_seconds = shard_mb * 1e6, shard_seconds
        self.num_rows = 0
        self._wide: ShardWriter | None = None
        self._digests: list[np.ndarray] = []
        self._features: list[Tensor] = []
        self._bytes = 0
        self._started = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shard-writer")
        self._writing: Future[Path] | None = None

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is in hand."""
        self.close()

    def add(self, digests: np.ndarray, features: Tensor) -> None:
        """Take rows: digests (n,) `S64`, features (n, *feature_shape) on any device, of any dtype.

        Raises:
            ValueError: shapes that do not fit.
        """
        if tuple(features.shape) != (len(digests), *self.layout.feature_shape):
            raise ValueError(
                f"features {tuple(features.shape)} for {len(digests)} rows of {self.layout.feature_shape}"
            )
        self.num_rows += len(digests)
        rows = features.to("cpu", DTYPES[self.layout.dtype])
        if self.layout.dtype != WIDE and features.dtype != rows.dtype:
            fits = finite_rows(rows)
            if not fits.all():
                self._add_wide(digests[~fits.numpy()], features.cpu()[~fits])
                digests, rows = digests[fits.numpy()], rows[fits]
        if len(digests):
            if not self._features:
                self._started = time.monotonic()
            self._digests.append(digests)
            self._features.append(rows)
            self._bytes += rows.nbytes
        if self._bytes >= self.shard_bytes or time.monotonic() - self._started >= self.shard_seconds:
            self.flush()

    def _add_wide(self, digests: np.ndarray, features: Tensor) -> None:
        if self._wide is None:
            logger.info("features beyond the range of %s are kept as %s", self.layout.dtype, WIDE)
            self._wide = ShardWriter(
                self.folder,
                self.layout.wide,
                shard_mb=self.shard_bytes / 1e6,
                shard_seconds=self.shard_seconds,
            )
        self._wide.add(digests, features)

    def flush(self) -> None:
        """Close the shard in hand, if it has rows."""
        self._wait()
        if not self._features:
            return
        digests, features = np.concatenate(self._digests), torch.cat(self._features)
        self._digests, self._features, self._bytes = [], [], 0
        self._writing = self._thread.submit(write_shard, self.folder, self.layout, digests, features)

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Write what is in hand, and wait until it is on the disk."""
        try:
            self.flush()
            self._wait()
        finally:
            self._thread.shutdown()
            if self._wide is not None:
                self._wide.close()
