"""Features on disk, found by the bytes of the image and by all that determines them."""

import hashlib
import json
import logging
import os
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from mlic.errors import InputError, check_choice
from mlic.features.locks import hold, lock_file, without_readers
from mlic.features.reader import FeatureReader
from mlic.features.row_index import RowIndex
from mlic.features.shard import (
    DTYPES,
    FORMAT_VERSION,
    SUFFIX,
    TEMPORARY_SUFFIX,
    DamagedShardError,
    Shard,
    ShardLayout,
    write_shard,
)
from mlic.features.writer import ShardWriter

logger = logging.getLogger(__name__)

DESCRIPTION = "store.json"
LAST_USED = "last_used"
REFUSED_SUFFIX = ".refused"


class FeatureStore:
    """Rows of features under the sha256 of their image's bytes, in shards; no central index.

    A folder `<root>/<readable name>-<first 16 digits of the key>/` holds the shards, `store.json` (what the
    key stands for, to read) and `last_used`. Any number of processes read; the store cannot be removed while an
    object of this class that has looked into it lives. Adding, and replacing damaged shards, is done by the one
    process that holds `lock`, or by the processes that it started.

    Attributes:
        root, folder: folder of all stores, and of this one.
        layout: key, dtype and feature shape.
    """

    def __init__(
        self,
        root: str | Path,
        identity: Mapping[str, Any],
        *,
        feature_shape: tuple[int, ...],
        dtype: str = "float16",
        view: str = "identity",
    ) -> None:
        """Name a store; nothing is read or written yet.

        Args:
            root: folder of all stores.
            identity: JSON types, all that determines the features of an image: weights, preprocessing, pool,
                precision.
            feature_shape: of one row.
            dtype: of the stored numbers: `float16`, `bfloat16` or `float32`. A row that overflows it is kept
                as float32.
            view: what was done to the images before: `identity` or `flip`.

        Raises:
            InputError: unknown dtype.
        """
        check_choice("features.dtype", dtype, DTYPES)
        self.root, self.identity, self.view = Path(root), dict(identity), view
        self.layout = ShardLayout(
            _key_of(self.identity, dtype, feature_shape, view, FORMAT_VERSION), dtype, tuple(feature_shape)
        )
        words = [str(self.identity.get(word, "")) for word in ("network", "pool")] + [dtype, view]
        name = re.sub(r"[^\w.]+", "-", "-".join(word for word in words if word))
        self.folder = self.root / f"{name}-{self.layout.key[:16]}"
        self._shards: dict[str, Shard] = {}
        self._index: RowIndex | None = None
        self._lock: FileLock | None = None
        self._held: weakref.finalize | None = None

    @classmethod
    def at(cls, folder: Path) -> "FeatureStore":
        """The store in a folder, from its `store.json`.

        Raises:
            InputError: no store, or one of another format version.
        """
        try:
            text = json.loads((folder / DESCRIPTION).read_text())
            version = text["format_version"]
            store = cls(
                folder.parent,
                text["identity"],
                feature_shape=tuple(text["feature_shape"]),
                dtype=text["dtype"],
                view=text["view"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"'{folder}' is no feature store: {DESCRIPTION} cannot be read ({error!r})."
            ) from error
        if version != FORMAT_VERSION or store.folder.name != folder.name:
            raise InputError(
                f"'{folder}' has format version {version} or another key than its name says; this is format "
                f"version {FORMAT_VERSION}. Remove the folder: its features are computed again when needed."
            )
        return store

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock and what was read: another process looks for itself."""
        return {**self.__dict__, "_lock": None, "_held": None, "_shards": {}, "_index": None}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for adding to it; waits, and says so, while another process holds it.

        The first to get it removes what a killed process left, and sees what others have added meanwhile.
        """
        lock = self._acquire()
        try:
            self._prepare()
            yield
        finally:
            lock.release()

    def _acquire(self) -> FileLock:
        try:
            lock = self._file_lock()
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("another process adds to '%s'; waiting until it is done", self.folder)
            lock = self._file_lock()
            lock.acquire()
        except OSError as error:
            raise InputError(
                f"features.dir: '{self.root}' cannot be written ({error.strerror}). Choose another folder."
            ) from error
        return lock

    def _file_lock(self) -> FileLock:
        if self._lock is None:
            path = lock_file(self.folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path)
        return self._lock

    def _hold(self) -> None:
        """Keep the store from being removed while this object lives; without locks nothing is held."""
        if self._held is None and self.folder.is_dir() and (descriptor := hold(self.folder)) is not None:
            self._held = weakref.finalize(self, os.close, descriptor)

    def _prepare(self) -> None:
        try:
            self._describe()
        except OSError as error:
            raise InputError(
                f"features.dir: '{self.folder}' cannot be written ({error.strerror}). Choose another folder or "
                "make room."
            ) from error
        self.touch()
        self.refresh()

    def _describe(self) -> None:
        """Make the folder, clear what a killed process left, and say what the key stands for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        description = {
            "format_version": FORMAT_VERSION,
            "key": self.layout.key,
            "identity": self.identity,
            "dtype": self.layout.dtype,
            "feature_shape": list(self.layout.feature_shape),
            "view": self.view,
        }
        temporary = self.folder / f"{DESCRIPTION}{TEMPORARY_SUFFIX}"
        temporary.write_text(json.dumps(description, indent=2) + "\n")
        os.replace(temporary, self.folder / DESCRIPTION)

    def refresh(self) -> list[DamagedShardError]:
        """Look for shards that came or went; refuse, by name, and return those that are not of this store."""
        self._hold()
        refused = []
        names = {path.name for path in self.folder.glob(f"*{SUFFIX}")}
        shards = {name: shard for name, shard in self._shards.items() if name in names}
        for name in sorted(names - shards.keys()):
            try:
                shards[name] = Shard(self.folder / name, self.layout)
            except DamagedShardError as error:
                self.refuse(error)
                refused.append(error)
        if self._index is None or shards.keys() != self._shards.keys():
            self._shards = shards
            self._index = RowIndex([shard.digests for shard in shards.values()])
        return refused

    def refuse(self, error: DamagedShardError) -> None:
        """Warn about a shard, and replace it by one of its good rows if no other process holds the store.

        A shard without any is set aside, in the place of the one before.
        """
        logger.warning("%s", error)
        shards = dict(self._shards)
        shard = shards.pop(error.path.name, None)
        # where another process holds the store, that one does so; a folder that is read-only stays as it is
        with suppress(Timeout, OSError), self._file_lock().acquire(timeout=0):
            kept = None if shard is None else self._keep_intact(shard)
            if kept is not None:
                shards[kept.path.name] = kept
            elif error.path.exists():
                for former in self.folder.glob(f"*{REFUSED_SUFFIX}"):
                    former.unlink()
                os.replace(error.path, error.path.with_suffix(REFUSED_SUFFIX))
        if shard is not None:
            self._shards, self._index = shards, RowIndex([shard.digests for shard in shards.values()])

    def _keep_intact(self, shard: Shard) -> Shard | None:
        try:
            digests, features = shard.read_intact()
        except DamagedShardError:
            return None
        if not len(digests):
            return None
        path = write_shard(self.folder, self.layout, digests, features)
        shard.path.unlink()
        return Shard(path, self.layout)

    def _rows(self) -> RowIndex:
        if self._index is None:
            self.refresh()
        assert self._index is not None
        return self._index

    def lacks(self, digests: np.ndarray) -> np.ndarray:
        """(N,) bool, true for those of the digests (N,) `S64` that have no row."""
        return self._rows().find(digests)[0] < 0

    def missing(self, digests: np.ndarray) -> np.ndarray:
        """Those of the digests (N,) `S64` that have no row, each once, in the order given."""
        absent = digests[self.lacks(digests)]
        return absent[np.sort(np.unique(absent, return_index=True)[1])]

    def writer(self, *, shard_mb: float = 64, shard_seconds: float = 60) -> ShardWriter:
        """What adds rows: a context manager with `add(digests, features)`. The caller holds `lock`."""
        return ShardWriter(self.folder, self.layout, shard_mb=shard_mb, shard_seconds=shard_seconds)

    def reader(self, digests: np.ndarray) -> FeatureReader:
        """Access to the rows of those digests (N,) by number, with memory bounded by what is asked for.

        Raises:
            InputError: a digest has no row.
        """
        shard_numbers, rows = self._rows().find(digests)
        if (shard_numbers < 0).any():
            raise InputError(
                f"features.dir: {int((shard_numbers < 0).sum())} of {len(digests)} rows are not in '{self.folder}'. "
                "Start the command again: it computes what is missing."
            )
        self.touch()
        return FeatureReader(self.layout, list(self._shards.values()), shard_numbers, rows, self.refuse)

    def load(self, digests: np.ndarray) -> Tensor:
        """Rows of those digests (N,) as one tensor (N, *feature_shape) in the dtype of the store.

        It is float32 where one of the rows is.

        Raises:
            InputError: a digest has no row.
            DamagedShardError: a row was found damaged; such rows are missing from now on.
        """
        return self.reader(digests).gather(np.arange(len(digests)))

    def touch(self) -> None:
        """Note that the store is in use."""
        if self.folder.is_dir():
            with suppress(OSError):  # a folder that is read-only
                (self.folder / LAST_USED).touch()

    @property
    def last_used(self) -> float:
        """Seconds since 1970."""
        for name in (LAST_USED, DESCRIPTION):
            if (self.folder / name).exists():
                return (self.folder / name).stat().st_mtime
        return time.time()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*") if path.is_file())

    @property
    def num_rows(self) -> int:
        """Rows in all shards; the header of each was checked, the rows are checked when they are read."""
        return len(self._rows())

    def verify(self) -> list[DamagedShardError]:
        """Read every row of every shard; what is damaged is taken out, and returned."""
        damaged = self.refresh()
        for shard in list(self._shards.values()):
            try:
                step = max(1, 2**26 // self.layout.row_bytes)
                for start in range(0, len(shard), step):
                    shard.read(np.arange(start, min(start + step, len(shard))))
            except DamagedShardError as error:
                self.refuse(error)
                damaged.append(error)
        return damaged


def remove_store(folder: Path) -> None:
    """Delete what a store of any format version keeps in its folder, and the folder if that empties it.

    Raises:
        InputError: another process reads it or adds to it.
    """
    try:
        with FileLock(lock_file(folder), timeout=0), without_readers(folder):
            _remove_files(folder)
    except (Timeout, BlockingIOError) as error:
        raise InputError(f"'{folder}' is in use by another process; it is left alone.") from error


def _remove_files(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.suffix in (SUFFIX, TEMPORARY_SUFFIX, REFUSED_SUFFIX) or path.name in (DESCRIPTION, LAST_USED):
            path.unlink(missing_ok=True)
    if any(folder.iterdir()):
        logger.warning("'%s' holds files that are not the store's; they are left there", folder)
    else:
        folder.rmdir()


def _key_of(
    identity: Mapping[str, Any], dtype: str, feature_shape: tuple[int, ...], view: str, version: int
) -> str:
    described = {
        "identity": identity,
        "dtype": dtype,
        "feature_shape": list(feature_shape),
        "view": view,
        "format_version": version,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
