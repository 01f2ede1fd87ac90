"""Shards of a feature store: safetensors files with the digests of their rows in the header."""

import json
import math
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlic.features.hashing import DIGEST_DTYPE
from mlic.runs.folder import replacing

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
WIDE = torch.float32  # dtype of rows that overflow the dtype of their store
SHARD_BYTES = 64e6
SHARD_SECONDS = 60.0  # a killed process loses at most the work of one minute


@dataclass(frozen=True)
class ShardLayout:
    """Properties that all shards of one store share.

    Attributes:
        key: hexadecimal digest of everything that determines the rows, including the format version.
        dtype: `float16`, `bfloat16` or `float32`.
        feature_shape: shape of one row.
    """

    key: str
    dtype: str
    feature_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Return the size of one row in bytes."""
        return math.prod(self.feature_shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard on disk.

    Attributes:
        digests: `S64` (n,), names of the rows.
        features: rows (n, *feature_shape), memory-mapped, so that only used rows are read.
        seconds: wall-clock seconds of computing the rows; NaN in old files.
        machine: name of the machine that computed them; "" in old files.
    """

    digests: np.ndarray
    features: Tensor
    seconds: float
    machine: str


def open_shard(path: Path, layout: ShardLayout, *, check_rows: bool = True) -> Shard:
    """Open a shard and check that it belongs to a store.

    Args:
        path: path of the file.
        layout: layout of the store.
        check_rows: read all rows, and compare their checksum with the header. For shards of earlier versions, only the
            header is checked.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or belongs to another store.
    """
    try:
        # safetensors checks the header, and that the length of the file matches it
        with safe_open(path, "pt") as file:
            metadata, features = file.metadata(), file.get_tensor("features")
        digests = np.frombuffer(metadata["digests"].encode("ascii"), dtype=DIGEST_DTYPE)
        seconds = float(metadata.get("seconds", math.nan))
        found = metadata["format_version"], metadata["key"], tuple(features.shape)
        checksum = metadata.get("crc32")
        if check_rows and checksum is not None and checksum != _checksum(features):
            raise ValueError("the checksum of its rows does not match")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it cannot be read as a shard of features ({error})") from error
    expected = str(FORMAT_VERSION), layout.key, (len(digests), *layout.feature_shape)
    if found != expected or features.dtype not in (DTYPES[layout.dtype], WIDE):
        raise ValueError(f"it contains {features.dtype} {found}, expected {layout.dtype} {expected}")
    return Shard(digests, features, seconds, metadata.get("machine", ""))


def _checksum(features: Tensor) -> str:
    return f"{zlib.crc32(features.flatten().view(torch.uint8).numpy().data):08x}"


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
        # rows that are not written yet, by dtype
        self._waiting: dict[torch.dtype, list[tuple[np.ndarray, Tensor]]] = {}
        self._last_flush = time.monotonic()

    def add(self, digests: np.ndarray, features: Tensor) -> None:
        """Add rows.

        Args:
            digests: `S64` (n,).
            features: finite rows (n, *feature_shape) on the CPU, of any dtype.

        Raises:
            ValueError: the shapes do not match.
        """
        if tuple(features.shape) != (len(digests), *self.layout.feature_shape):
            raise ValueError(
                f"features {tuple(features.shape)} for {len(digests)} rows of {self.layout.feature_shape}"
            )
        narrow = DTYPES[self.layout.dtype]
        fits = finite_rows(features.to(narrow))
        for chosen, dtype in ((fits, narrow), (~fits, WIDE)):
            if chosen.any():
                rows = features[chosen].to(dtype)
                self._waiting.setdefault(dtype, []).append((digests[chosen.numpy()], rows))
        num_bytes = sum(rows.nbytes for batches in self._waiting.values() for _, rows in batches)
        if num_bytes >= self.shard_bytes or time.monotonic() - self._last_flush >= self.shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the remaining rows; the caller must call this at the end, even after an error."""
        now = time.monotonic()
        shards = [
            (np.concatenate([own for own, _ in batches]), torch.cat([own for _, own in batches]))
            for batches in self._waiting.values()
        ]
        seconds = (now - self._last_flush) / max(1, sum(len(digests) for digests, _ in shards))
        for digests, features in shards:
            self._write(digests, features.contiguous(), seconds * len(digests))
        self._waiting, self._last_flush = {}, now

    def _write(self, digests: np.ndarray, features: Tensor, seconds: float) -> None:
        """Write rows as a new shard, which gets its name only when it is complete and flushed to disk."""
        metadata = {
            "format_version": str(FORMAT_VERSION),
            "key": self.layout.key,
            "feature_shape": json.dumps(self.layout.feature_shape),
            "digests": digests.tobytes().decode("ascii"),
            "seconds": f"{seconds:.6g}",
            "machine": self.machine,
            "crc32": _checksum(features),
        }
        with replacing(self.folder / f"{uuid4().hex}{SUFFIX}") as file:
            file.write(save({"features": features}, metadata=metadata))


def finite_rows(rows: Tensor) -> Tensor:
    """Return a bool (n,), True for the rows (n, ...) that contain only finite values."""
    return torch.isfinite(rows).flatten(1).all(dim=1)
