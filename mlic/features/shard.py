"""One shard of a feature store: a safetensors file that carries the names and checksums of its rows."""

import json
import os
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
TEMPORARY_SUFFIX = ".tmp"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
WIDE = "float32"  # of the rows that overflow another format
_SAFETENSORS_NAMES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own bound
_DIGEST_LENGTH = 64


class DamagedShardError(InputError):
    """A shard that must not be read as it is; `path` names it, `reason` says why."""

    def __init__(self, path: Path, reason: str) -> None:
        """Name the file and the reason."""
        super().__init__(
            f"shard '{path}' is refused: {reason}. The rows that are lost with it are computed again by the next "
            "command that needs them."
        )
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way between processes."""
        return DamagedShardError, (self.path, self.reason)


def finite_rows(rows: Tensor) -> Tensor:
    """(n,) bool: which of the rows (n, ...) are finite throughout."""
    return torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)


@dataclass(frozen=True)
class ShardLayout:
    """What all shards of one store have in common.

    Attributes:
        key: hexadecimal digest of all that determines the rows, the format version included.
        dtype: `float16`, `bfloat16` or `float32`.
        feature_shape: of one row.
    """

    key: str
    dtype: str
    feature_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.feature_shape) * DTYPES[self.dtype].itemsize

    @property
    def wide(self) -> "ShardLayout":
        """That of shards whose rows do not fit `dtype`: the same store, in float32."""
        return replace(self, dtype=WIDE)

    def checksum(self, digest: bytes, row: Any) -> int:
        """CRC-32 over key, row name and row bytes: a row of another name or store does not fit."""
        return zlib.crc32(row, zlib.crc32(digest, self._key_checksum))

    @cached_property
    def _key_checksum(self) -> int:
        return zlib.crc32(self.key.encode())


class Shard:
    """A shard on disk; only its header is read at first.

    Attributes:
        path: the file.
        layout: of the store, or its `wide` one.
        digests: (n,) `S64`, names of the rows.
    """

    def __init__(self, path: Path, layout: ShardLayout) -> None:
        """Read and check the header.

        Raises:
            DamagedShardError: truncated, not a safetensors file, or of another store, format version or
                shape.
        """
        self.path = path
        try:
            header, self._data_start = _read_header(path)
            self.layout = layout = layout.wide if header["__metadata__"]["dtype"] == WIDE else layout
            self.digests = _check_metadata(header, layout)
            spans = _check_tensors(header, layout, len(self.digests))
            if os.path.getsize(path) != self._data_start + spans["end"]:
                raise ValueError("truncated, or longer than its header says")
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            MemoryError,
        ) as error:
            reason = str(error) if isinstance(error, ValueError) else f"its header cannot be read ({error!r})"
            raise DamagedShardError(path, reason) from error
        self._features_start = self._data_start + spans["features"]
        self._checksums_start = self._data_start + spans["checksums"]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.digests)

    @cached_property
    def _checksums(self) -> np.ndarray:
        buffer = np.empty(len(self), dtype=np.int64)
        with self._open() as file:
            file.seek(self._checksums_start)
            if file.readinto(buffer.view(np.uint8)) != buffer.nbytes:
                raise DamagedShardError(self.path, "truncated while it was in use")
        return buffer

    def read(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Rows by number, each checked against its checksum.

        Plain reads instead of a memory map: memory stays bounded by what is asked for, and a file that is cut
        short meanwhile is an error instead of a bus error.

        Args:
            rows: (m,) int64.
            out: contiguous tensor for the result, if there is one already.

        Returns:
            (m, *feature_shape) in the dtype of the shard.

        Raises:
            DamagedShardError: the file is gone or cut short, or a row does not fit its checksum.
        """
        features, fits = self._read(rows, out)
        if not fits.all():
            raise DamagedShardError(self.path, f"row {rows[~fits][0]} does not fit its checksum")
        return features

    def read_intact(self) -> tuple[np.ndarray, Tensor]:
        """Names (m,) `S64` and features (m, *feature_shape) of the rows that fit their checksum.

        Raises:
            DamagedShardError: the file is gone or cut short.
        """
        features, fits = self._read(np.arange(len(self)))
        return self.digests[fits], features[torch.from_numpy(fits)]

    def _read(self, rows: np.ndarray, out: Tensor | None = None) -> tuple[Tensor, np.ndarray]:
        """Rows (m, *feature_shape), and (m,) bool, true where the row fits its checksum."""
        row_bytes = self.layout.row_bytes
        shape, dtype = (len(rows), *self.layout.feature_shape), DTYPES[self.layout.dtype]
        features = torch.empty(shape, dtype=dtype) if out is None else out
        data = memoryview(features.view(-1).view(torch.uint8).numpy().data)
        with self._open() as file:
            for start, stop in _runs(rows):
                file.seek(self._features_start + int(rows[start]) * row_bytes)
                if file.readinto(data[start * row_bytes : stop * row_bytes]) != (stop - start) * row_bytes:
                    raise DamagedShardError(self.path, "truncated while it was in use")
        checksum = self.layout.checksum
        found = [
            checksum(name, data[position * row_bytes : (position + 1) * row_bytes])
            for position, name in enumerate(self.digests[rows].tolist())
        ]
        return features, np.array(found, dtype=np.int64) == self._checksums[rows]

    def announce(self, rows: np.ndarray) -> None:
        """Let the system read rows ahead, in the background, where it can."""
        if not hasattr(os, "posix_fadvise"):
            return
        row_bytes = self.layout.row_bytes
        with self._open() as file:
            for start, stop in _runs(rows):
                offset = self._features_start + int(rows[start]) * row_bytes
                os.posix_fadvise(file.fileno(), offset, (stop - start) * row_bytes, os.POSIX_FADV_WILLNEED)

    def _open(self) -> Any:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise DamagedShardError(self.path, f"cannot be opened ({error.strerror})") from error


def write_shard(folder: Path, layout: ShardLayout, digests: np.ndarray, features: Tensor) -> Path:
    """Write rows as a new shard; it appears under its name only when it is whole and on the disk.

    Args:
        folder: where.
        layout: of the store.
        digests: (n,) `S64`.
        features: (n, *feature_shape) in the dtype of the layout, on the CPU.

    Returns:
        The file.
    """
    features = features.contiguous()
    flat = features.view(len(features), -1).view(torch.uint8).numpy()
    checksums = [layout.checksum(digest, row) for digest, row in zip(digests, flat, strict=True)]
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "key": layout.key,
        "dtype": layout.dtype,
        "feature_shape": json.dumps(layout.feature_shape),
        "digests": digests.tobytes().decode("ascii"),
    }
    target = folder / f"{uuid4().hex}{SUFFIX}"
    temporary = target.with_suffix(TEMPORARY_SUFFIX)
    tensors = {"features": features, "checksums": torch.tensor(checksums, dtype=torch.int64)}
    try:
        save_file(tensors, temporary, metadata=metadata)
        _flush(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # half a shard on a full disk would take the room of the next
    _flush(folder)
    return target


def _flush(path: Path) -> None:
    """Bring a file or a folder's entries to the disk."""
    if path.is_dir() and os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= _MAX_HEADER_BYTES else b""
    if not length or len(text) != length:
        raise ValueError("truncated, or not a safetensors file")
    return json.loads(text), 8 + length


def _check_metadata(header: dict[str, Any], layout: ShardLayout) -> np.ndarray:
    metadata = header["__metadata__"]
    if metadata["format_version"] != str(FORMAT_VERSION):
        raise ValueError(f"format version {metadata['format_version']}, this is version {FORMAT_VERSION}")
    if metadata["key"] != layout.key:
        raise ValueError(f"it belongs to store {metadata['key'][:16]}, this is store {layout.key[:16]}")
    text = metadata["digests"].encode("ascii")
    if not text or len(text) % _DIGEST_LENGTH:
        raise ValueError("its list of rows is damaged")
    return np.frombuffer(text, dtype=DIGEST_DTYPE)


def _check_tensors(header: dict[str, Any], layout: ShardLayout, num_rows: int) -> dict[str, int]:
    """Offsets of both tensors from the start of the data, and the end of the data."""
    wanted = {
        "features": (_SAFETENSORS_NAMES[layout.dtype], [num_rows, *layout.feature_shape], layout.row_bytes),
        "checksums": ("I64", [num_rows], 8),
    }
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for name, (dtype, shape, row_bytes) in wanted.items():
        entry = header[name]
        starts[name], ends[name] = entry["data_offsets"]
        if (
            type(starts[name]) is not int
            or type(ends[name]) is not int
            or entry["dtype"] != dtype
            or entry["shape"] != shape
            or ends[name] - starts[name] != num_rows * row_bytes
        ):
            raise ValueError(
                f"tensor '{name}' is {entry['dtype']} {entry['shape']}, expected {dtype} {shape}"
            )
    if sorted(starts.values()) != [0, min(ends.values())]:
        raise ValueError("its tensors overlap")
    return {**starts, "end": max(ends.values())}


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Bounds of the runs of consecutive row numbers."""
    if not len(rows):
        return []
    breaks = (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
    return list(zip([0, *breaks], [*breaks, len(rows)], strict=True))
