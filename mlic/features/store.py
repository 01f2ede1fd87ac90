"""The feature store: features on disk, identified by the bytes of the image and the backbone."""

import hashlib
import json
import logging
import math
import os
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from mlic.errors import InputError, check_choice
from mlic.features.dataset import FeatureReader
from mlic.features.hashing import DIGEST_DTYPE
from mlic.features.shard import DTYPES, FORMAT_VERSION, SUFFIX, Shard, ShardLayout, ShardWriter, open_shard
from mlic.runs.folder import write_atomically

try:
    import fcntl
except ImportError:  # Windows, where files in use cannot be removed anyway
    fcntl = None

logger = logging.getLogger(__name__)

DESCRIPTION = "store.json"
LAST_USED = "last_used"
LOCKS = ".locks"
# Earlier versions also had stores of mirror images, distinguished by this word. It remains part of the key, so that
# existing stores are found.
VIEW = "identity"
TEMPORARY_SUFFIX = ".tmp"
DAMAGED = "shard.damaged"  # the last shard that was set aside
OWN_SUFFIXES = (SUFFIX, TEMPORARY_SUFFIX, ".damaged", ".refused")


class FeatureStore:
    """Store of features in shards, by the sha256 of the bytes of an image; there is no central index.

    The folder `<root>/<readable name>-<first 16 digits of the key>/` contains the shards, `store.json` (a description
    of the key) and `last_used`. Any number of processes can read. A store is not removed while an object of this
    class that has read it exists. Rows are added only by the process that holds `lock`, or by the processes that it
    started.

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
    ) -> None:
        """Create the object of a store; nothing is read or written yet.

        Args:
            root: folder of all stores.
            identity: everything that determines the features of an image, as JSON types: weights, preprocessing,
                pooling, precision.
            feature_shape: shape of one row.
            dtype: dtype of stored features: `float16`, `bfloat16` or `float32`. Rows that overflow are stored as
                float32.

        Raises:
            InputError: the dtype is unknown.
        """
        check_choice("features.dtype", dtype, DTYPES)
        self.root = Path(root)
        self._description = {
            "identity": dict(identity),
            "dtype": dtype,
            "feature_shape": list(feature_shape),
            "view": VIEW,
            "format_version": FORMAT_VERSION,
        }
        key = hashlib.sha256(json.dumps(self._description, sort_keys=True).encode()).hexdigest()
        self.layout = ShardLayout(key, dtype, tuple(feature_shape))
        words = [str(identity.get(word, "")) for word in ("network", "pool")] + [dtype, VIEW]
        name = re.sub(r"[^\w.]+", "-", "-".join(word for word in words if word))
        self.folder = self.root / f"{name}-{key[:16]}"
        self._shards: dict[str, Shard] | None = None
        self._in_use: weakref.finalize | None = None

    @classmethod
    def at(cls, folder: Path) -> "FeatureStore":
        """Return the store in a folder, from its `store.json`.

        Raises:
            InputError: the folder is not a store, or has another format version.
        """
        try:
            text = json.loads((folder / DESCRIPTION).read_text())
            version, shape = text["format_version"], tuple(text["feature_shape"])
            store = cls(folder.parent, text["identity"], feature_shape=shape, dtype=text["dtype"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"'{folder}' is not a feature store: {DESCRIPTION} cannot be read ({error!r})."
            ) from error
        if version != FORMAT_VERSION or store.folder.name != folder.name:
            raise InputError(
                f"'{folder}' is a feature store of another version of mlic (format version {version}), or its key does "
                "not match its name. Remove the folder; its features are computed again when needed."
            )
        return store

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the store for adding rows; wait while another process holds the lock.

        Raises:
            InputError: the folder is not writable.
        """
        lock = FileLock(lock_file(self.folder))
        with ExitStack() as held:
            try:
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    logger.info("another process adds rows to '%s'; waiting until it is done", self.folder)
                    lock.acquire()
                held.callback(lock.release)
                self._prepare()
            except OSError as error:
                raise InputError(
                    f"features.dir: '{self.folder}' cannot be written ({error.strerror}). Choose another folder "
                    "or free some space."
                ) from error
            yield

    def _prepare(self) -> None:
        """Create the folder, remove temporary files of killed processes, and write the description of the key."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        description = {"key": self.layout.key, **self._description}
        write_atomically(self.folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")
        self.touch()
        self.refresh()

    def refresh(self, *, check_rows: bool = True) -> list[str]:
        """Find new and removed shards.

        A shard that is damaged or belongs to another store is renamed to `shard.damaged`, replacing the previous one,
        so that its rows count as missing and are computed again.

        Args:
            check_rows: also read all rows of new shards; see `open_shard`.

        Returns:
            The problems of the damaged shards.
        """
        if self._in_use is None and self.folder.is_dir() and (file := lock_for_readers(self.folder)):
            self._in_use = weakref.finalize(self, file.close)
        known = self._shards or {}
        shards, problems = {}, []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                shards[path.name] = known.get(path.name) or open_shard(
                    path, self.layout, check_rows=check_rows
                )
            except FileNotFoundError:  # another process has set it aside in the meantime
                continue
            except ValueError as error:
                problem = f"shard '{path}' is not used, and its rows are computed again when needed: {error}"
                logger.warning("%s", problem)
                problems.append(problem)
                with suppress(OSError):  # a folder that is read-only
                    os.replace(path, self.folder / DAMAGED)
        if self._shards is None or shards.keys() != known.keys():
            self._set_shards(shards)
        return problems

    def _set_shards(self, shards: dict[str, Shard]) -> None:
        """Index rows by digest as sorted arrays, which take little memory for millions of rows."""
        digests = [np.empty(0, dtype=DIGEST_DTYPE), *(shard.digests for shard in shards.values())]
        sizes = [len(own) for own in digests]
        together = np.concatenate(digests)
        # a stable sort, so that the first of duplicate rows is used
        order = np.argsort(together, kind="stable")
        self._shards, self._digests = shards, together[order]
        self._shard_numbers = np.repeat(np.arange(-1, len(shards)), sizes)[order]
        self._rows = np.concatenate([np.arange(size) for size in sizes])[order]

    def _find(self, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions in the index, and a bool (N,), True for the digests (N,) that are there."""
        if not self.shards:
            return np.zeros(len(digests), dtype=np.int64), np.zeros(len(digests), dtype=bool)
        positions = np.minimum(np.searchsorted(self._digests, digests), len(self._digests) - 1)
        return positions, self._digests[positions] == digests

    def is_missing(self, digests: np.ndarray) -> np.ndarray:
        """Return a bool (N,), True for those of the digests (N,) `S64` that have no row."""
        return ~self._find(digests)[1]

    def writer(self, **options: Any) -> ShardWriter:
        """Return a writer of new rows; the caller must hold `lock` and call `flush` at the end."""
        return ShardWriter(self.folder, self.layout, **options)

    def reader(self, digests: np.ndarray) -> FeatureReader:
        """Return a reader of the rows of digests (N,).

        Raises:
            InputError: a digest has no row.
        """
        positions, found = self._find(digests)
        if not found.all():
            raise InputError(
                f"features.dir: {int((~found).sum())} of {len(digests)} rows are not in '{self.folder}'. Start the "
                "command again to compute missing rows."
            )
        self.touch()
        features = [shard.features for shard in self.shards]
        shape, dtype = self.layout.feature_shape, DTYPES[self.layout.dtype]
        return FeatureReader(
            features, self._shard_numbers[positions], self._rows[positions], feature_shape=shape, dtype=dtype
        )

    def load(self, digests: np.ndarray) -> Tensor:
        """Return the rows of digests (N,) as a tensor (N, *feature_shape) in the dtype of the store.

        The dtype is float32 if one of the rows is float32.

        Raises:
            InputError: a digest has no row.
        """
        return self.reader(digests).gather(np.arange(len(digests)))

    def touch(self) -> None:
        """Record that the store is in use."""
        if self.folder.is_dir():
            with suppress(OSError):  # a folder that is read-only
                (self.folder / LAST_USED).touch()

    @property
    def shards(self) -> list[Shard]:
        """Return all shards."""
        if self._shards is None:
            self.refresh()
        return list((self._shards or {}).values())

    @property
    def seconds_per_row(self) -> float | None:
        """Return the wall-clock seconds per row of the shards that record them; None if none does."""
        timed = [shard for shard in self.shards if math.isfinite(shard.seconds)]
        rows = sum(len(shard.digests) for shard in timed)
        return sum(shard.seconds for shard in timed) / rows if rows else None

    @property
    def machines(self) -> str:
        """Return the names of the machines that computed the rows, as far as they are recorded."""
        return " and ".join(sorted({shard.machine for shard in self.shards if shard.machine}))

    @property
    def num_rows(self) -> int:
        """Return the number of rows in all shards."""
        return sum(len(shard.digests) for shard in self.shards)


def size_of(folder: Path) -> int:
    """Return the size of the files of a store in bytes."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def lock_file(folder: Path) -> Path:
    """Return the lock file for adding to a store, outside its folder, because others may be waiting for it."""
    return folder.parent / LOCKS / f"{folder.name}.lock"


def lock_for_readers(folder: Path, *, exclusive: bool = False) -> IO[bytes] | None:
    """Acquire the lock of the readers of a store, shared for reading or exclusive for removing the store.

    Returns:
        The file that holds the lock until it is closed or the process ends; None if the folder of all stores is
        read-only or the file system has no locks.

    Raises:
        BlockingIOError: `exclusive`, and another reader holds it.
    """
    if fcntl is None:
        return None
    path = lock_file(folder).with_suffix(".readers")
    with ExitStack() as unlocked:
        try:
            path.parent.mkdir(exist_ok=True)
            file = unlocked.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        except BlockingIOError:
            raise
        except OSError:
            return None
        unlocked.pop_all()
    return file


def remove_store(folder: Path) -> None:
    """Delete the files of a store of any format version, and its folder if it is then empty.

    Raises:
        InputError: another process reads or adds rows.
    """
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(lock_file(folder), timeout=0))
            if file := lock_for_readers(folder, exclusive=True):
                held.enter_context(file)
        except (Timeout, BlockingIOError) as error:
            raise InputError(f"'{folder}' is in use by another process and is not removed.") from error
        for path in list(folder.iterdir()):
            if path.suffix in OWN_SUFFIXES or path.name in (DESCRIPTION, LAST_USED):
                path.unlink(missing_ok=True)
        if any(folder.iterdir()):
            logger.warning("'%s' contains other files, which are kept", folder)
        else:
            folder.rmdir()
