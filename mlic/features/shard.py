"""One shard of a feature store: a safetensors file that carries the digests of its rows in its header."""

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
WIDE = "float32"  # of rows that overflow the number format of their store


@dataclass(frozen=True)
class ShardLayout:
    """Properties that all shards of one store share.

    Attributes:
        key: hexadecimal digest of all that determines the rows, including the format version.
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
        path: the file.
        digests: (n,) `S64`, names of the rows.
        features: (n, *feature_shape), a map of the file into memory: only the rows that are used are read.
        seconds: wall-clock time that computing the rows took; NaN in files from before it was stored.
    """

    path: Path
    digests: np.ndarray
    features: Tensor
    seconds: float


def open_shard(path: Path, layout: ShardLayout, *, check_rows: bool = True) -> Shard:
    """Open a shard and check that it belongs to a store.

    Args:
        path: the file.
        layout: of the store.
        check_rows: read all rows, and compare their checksum with that in the header. Shards of earlier versions have
            none that is read; of these only the header is checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its rows are those of another store.
    """
    try:
        # safetensors checks the header, and that the file is as long as the header says
        with safe_open(path, "pt") as file:
            metadata, features = file.metadata(), file.get_tensor("features")
        digests = np.frombuffer(metadata["digests"].encode("ascii"), dtype=DIGEST_DTYPE)
        seconds = float(metadata.get("seconds", math.nan))
        found = metadata["format_version"], metadata["key"], tuple(features.shape), features.dtype
        checksum = metadata.get("crc32")
        if check_rows and checksum is not None and checksum != _checksum(features):
            raise ValueError("its rows are not those that were written")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it cannot be read as a shard of features ({error})") from error
    shape = (len(digests), *layout.feature_shape)
    for dtype in (DTYPES[layout.dtype], DTYPES[WIDE]):
        if found == (str(FORMAT_VERSION), layout.key, shape, dtype):
            return Shard(path, digests, features, seconds)
    raise ValueError(
        f"it holds {features.dtype} {tuple(features.shape)} of store {found[1][:16]}, expected {layout.dtype} {shape} "
        f"of store {layout.key[:16]}"
    )


def write_shard(
    folder: Path, layout: ShardLayout, digests: np.ndarray, features: Tensor, seconds: float
) -> Path:
    """Write rows as a new shard, which appears under its name only when it is whole and on the disk.

    Args:
        folder: folder of the store.
        layout: of the store.
        digests: (n,) `S64`.
        features: (n, *feature_shape) on the CPU, in the dtype of the layout or float32.
        seconds: wall-clock time that computing the rows took.

    Returns:
        The file.
    """
    features = features.contiguous()
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "key": layout.key,
        "feature_shape": json.dumps(layout.feature_shape),
        "digests": digests.tobytes().decode("ascii"),
        "seconds": f"{seconds:.6g}",
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
