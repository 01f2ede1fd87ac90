"""Shards of a feature store: safetensors files with the digests of their rows in the header."""

import json
import math
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
WIDE = "float32"  # dtype of rows that overflow the dtype of their store


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
        path: path of the file.
        digests: `S64` (n,), names of the rows.
        features: rows (n, *feature_shape), memory-mapped, so that only used rows are read.
        seconds: wall-clock seconds of computing the rows; NaN in old files.
        machine: name of the machine that computed them; "" in old files.
    """

    path: Path
    digests: np.ndarray
    features: Tensor
    seconds: float
    machine: str = ""


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
        found = metadata["format_version"], metadata["key"], tuple(features.shape), features.dtype
        checksum = metadata.get("crc32")
        if check_rows and checksum is not None and checksum != _checksum(features):
            raise ValueError("the checksum of its rows does not match")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it cannot be read as a shard of features ({error})") from error
    shape = (len(digests), *layout.feature_shape)
    for dtype in (DTYPES[layout.dtype], DTYPES[WIDE]):
        if found == (str(FORMAT_VERSION), layout.key, shape, dtype):
            return Shard(path, digests, features, seconds, metadata.get("machine", ""))
    raise ValueError(
        f"it contains {features.dtype} {tuple(features.shape)} of store {found[1][:16]}, expected {layout.dtype} "
        f"{shape} of store {layout.key[:16]}"
    )


def write_shard(
    folder: Path,
    layout: ShardLayout,
    digests: np.ndarray,
    features: Tensor,
    seconds: float,
    machine: str = "",
) -> Path:
    """Write rows as a new shard, which gets its name only when it is complete and flushed to disk.

    Args:
        folder: folder of the store.
        layout: layout of the store.
        digests: `S64` (n,).
        features: rows (n, *feature_shape) on the CPU, in the dtype of the layout or float32.
        seconds: wall-clock seconds of computing the rows.
        machine: name of the machine that computed them.

    Returns:
        The path of the file.
    """
    features = features.contiguous()
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "key": layout.key,
        "feature_shape": json.dumps(layout.feature_shape),
        "digests": digests.tobytes().decode("ascii"),
        "seconds": f"{seconds:.6g}",
        "machine": machine,
        "crc32": _checksum(features),
    }
    path = folder / f"{uuid4().hex}{SUFFIX}"
    with replacing(path) as file:
        file.write(save({"features": features}, metadata=metadata))
    return path


def _checksum(features: Tensor) -> str:
    return f"{zlib.crc32(features.flatten().view(torch.uint8).numpy().data):08x}"


def finite_rows(rows: Tensor) -> Tensor:
    """Return a bool (n,), True for the rows (n, ...) that contain only finite values."""
    return torch.isfinite(rows).flatten(1).all(dim=1)
