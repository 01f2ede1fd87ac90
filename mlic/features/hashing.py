"""The sha256 of image files, which identifies rows in a feature store."""

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Sequence
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
Entry = tuple[FileState, str]

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
    if index is not None:
        try:
            index.parent.mkdir(parents=True, exist_ok=True)
            return _hash_files(paths, index)
        except (
            OSError,
            sqlite3.OperationalError,
        ) as error:  # no permission, a full disk, or locked by others
            logger.warning("the index of file hashes '%s' is not used: %s", index, error)
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:  # its content may be arbitrary
            logger.warning("the index of file hashes '%s' is damaged and is created again: %s", index, error)
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
            chunk = paths[start : start + CHUNK_FILES]
            entries = [_find(known, path) for path in chunk]
            fresh: list[tuple[str, int, int, int, str]] = []
            hashed = threads.map(_hash_unless_known, chunk, entries)
            for row, (path, entry, (state, digest, reason)) in enumerate(
                zip(chunk, entries, hashed, strict=True), start
            ):
                states[row], digests[row] = state, digest
                if reason:
                    bad[path] = reason
                elif not isinstance(path, TarImage) and entry != (state, digest):
                    num_read += 1
                    name = os.path.abspath(path)
                    if is_text(name) and max(state[1:]) < time.time_ns() - RACY_NS:
                        fresh.append((name, *state, digest))
            with known:
                known.executemany(_ADD, fresh)
    return HashedFiles(digests, states, bad, num_read)


def _find(index: sqlite3.Connection, path: ImageReference) -> Entry | None:
    if isinstance(path, TarImage) or not is_text(name := os.path.abspath(path)):
        return None
    row = index.execute(_FIND, (name,)).fetchone()
    return None if row is None else (row[:3], row[3])


def state_of(path: ImageReference) -> FileState:
    """Return size in bytes, mtime and ctime in ns, or raise an OSError; for images in tar shards size, offset, 0."""
    if isinstance(path, TarImage):
        return path.size, path.offset, 0
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash_unless_known(path: ImageReference, known: Entry | None) -> tuple[FileState, str, str]:
    """Return state, digest and reason of failure (empty if none) of a file."""
    try:
        state = state_of(path)
        if isinstance(path, TarImage):
            return state, path.digest, ""
        if known is not None and known[0] == state:
            return *known, ""
        with open(path, "rb") as file:
            return state, hashlib.file_digest(file, "sha256").hexdigest(), ""
    except OSError as error:
        return (0, 0, 0), "", error.strerror or type(error).__name__
