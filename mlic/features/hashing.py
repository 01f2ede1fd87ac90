"""The sha256 of image files, which identifies rows in a feature store."""

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlic.data.images import ImageReference
from mlic.data.table import is_text
from mlic.data.tar_images import TarImage

logger = logging.getLogger(__name__)

DIGEST_DTYPE = "S64"  # hexadecimal, because raw bytes may end in zeros, which numpy strips
CHUNK_FILES = 4096
# A file that changes again within the granularity of its clock keeps its times (like "racy" entries in git).
RACY_NS = 2_000_000_000

FileState = tuple[int, int, int]  # size in bytes, mtime and ctime in ns

_CREATE = (
    "CREATE TABLE IF NOT EXISTS files "
    "(path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, digest TEXT) WITHOUT ROWID"
)
_FIND = "SELECT size, mtime, ctime, digest FROM files WHERE path = ?"
_ADD = "INSERT OR REPLACE INTO files (path, size, mtime, ctime, digest) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class HashedFiles:
    """Digests of files in the order of the request.

    Attributes:
        digests: `S64` (N,), hexadecimal sha256 of the bytes; empty for unreadable files.
        states: int64 (N, 3): size in bytes, mtime and ctime in ns before the bytes were read.
        bad: maps unreadable files to the reasons.
        num_read: number of files whose bytes were read; the others were in the index.
    """

    digests: np.ndarray
    states: np.ndarray
    bad: dict[ImageReference, str]
    num_read: int


def hash_files(paths: Sequence[ImageReference], index: Path | None = None) -> HashedFiles:
    """Hash the bytes of files in parallel threads, or find the digests in an index.

    Images in tar shards are hashed when the shard is indexed.

    Args:
        paths: N images.
        index: SQLite file of known digests, created if missing; None hashes all files. It only saves time: a damaged
            index is removed, and the next call creates a new one. Entries are valid while size, mtime and ctime of
            the file match, unless the file was written less than two seconds before it was hashed.

    Returns:
        The digests. Missing and unreadable files are listed in `bad`.
    """
    if index is None:
        return _hash_files(paths, ":memory:")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        return _hash_files(paths, index)
    except (OSError, sqlite3.OperationalError) as error:  # no permission, a full disk, or locked by others
        logger.warning("the index of file hashes '%s' is not used: %s", index, error)
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:  # its content may be arbitrary
        logger.warning(
            "the index of file hashes '%s' is damaged (%s) and will be created again", index, error
        )
        with suppress(OSError):
            index.unlink(missing_ok=True)
    return _hash_files(paths, ":memory:")


def _hash_files(paths: Sequence[ImageReference], index: Path | str) -> HashedFiles:
    digests = np.zeros(len(paths), dtype=DIGEST_DTYPE)
    states = np.zeros((len(paths), 3), dtype=np.int64)
    bad: dict[ImageReference, str] = {}
    num_read = 0
    with closing(sqlite3.connect(index, timeout=30)) as known, ThreadPoolExecutor() as threads:
        known.execute(_CREATE)
        for start in range(0, len(paths), CHUNK_FILES):
            chunk = list(paths[start : start + CHUNK_FILES])
            names = [path if isinstance(path, TarImage) else os.path.abspath(path) for path in chunk]
            cached = _find(known, (name for name in names if isinstance(name, str)))
            jobs = threads.map(_hash_unless_known, names, [cached.get(str(name)) for name in names])
            fresh: list[tuple[str, int, int, int, str]] = []
            for offset, (state, digest, reason) in enumerate(jobs):
                name = names[offset]
                states[start + offset], digests[start + offset] = state, digest
                if reason:
                    bad[chunk[offset]] = reason
                elif isinstance(name, str) and cached.get(name) != (state, digest):
                    num_read += 1
                    if _is_settled(state) and is_text(name):
                        fresh.append((name, *state, digest))
            with known:
                known.executemany(_ADD, fresh)
    logger.debug("hashed %d of %d files, the others were in the index", num_read, len(paths))
    return HashedFiles(digests, states, bad, num_read)


def _find(index: sqlite3.Connection, names: Iterable[str]) -> dict[str, tuple[FileState, str]]:
    """Return the entries of absolute paths; names that are not valid text cannot be in the index."""
    rows = ((name, index.execute(_FIND, (name,)).fetchone()) for name in names if is_text(name))
    return {name: (row[:3], row[3]) for name, row in rows if row is not None}


def state_of(name: str | ImageReference) -> FileState:
    """Return size in bytes, mtime and ctime in ns, or raise an OSError; for images in tar shards size, offset, 0."""
    if isinstance(name, TarImage):
        return name.size, name.offset, 0
    status = os.stat(name)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash_unless_known(
    name: str | TarImage, known: tuple[FileState, str] | None
) -> tuple[FileState, str, str]:
    """Return state, digest and reason of failure (empty if none) of a file."""
    try:
        state = state_of(name)
        if isinstance(name, TarImage):
            return state, name.digest, ""
        if known is not None and known[0] == state:
            return state, known[1], ""
        with open(name, "rb") as file:
            return state, hashlib.file_digest(file, "sha256").hexdigest(), ""
    except OSError as error:
        return (0, 0, 0), "", error.strerror or type(error).__name__


def _is_settled(state: FileState) -> bool:
    return max(state[1:]) < time.time_ns() - RACY_NS
