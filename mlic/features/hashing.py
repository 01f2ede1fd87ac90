"""sha256 of image files: the name of a row in a feature store."""

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
from mlic.data.tars.images import TarImage

logger = logging.getLogger(__name__)

DIGEST_DTYPE = "S64"  # hexadecimal: raw bytes may end in zeros, which numpy strips
CHUNK_FILES = 4096
# A file changed again within its clock's granularity keeps its times: git's "racy" entries.
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
    """Digests of files, in the order asked.

    Attributes:
        digests: (N,) `S64`, hexadecimal sha256 of the bytes; empty where the file could not be read.
        states: (N, 3) int64: size in bytes, mtime and ctime in ns, as they were before the bytes were read.
        bad: path -> reason, of the files that could not be read.
        num_read: number of files whose bytes were read; the others were in the index.
    """

    digests: np.ndarray
    states: np.ndarray
    bad: dict[ImageReference, str]
    num_read: int


def hash_files(paths: Sequence[ImageReference], index: Path | None = None) -> HashedFiles:
    """Hash the bytes of files in parallel threads, or look the digests up.

    Images in tar shards were hashed when the shard was indexed.

    Args:
        paths: N images.
        index: SQLite file of the digests found before, made when absent; None hashes everything. It only saves time:
            one that is damaged is removed, and the next call makes it again. Entries are trusted while size, mtime and
            ctime are those of the file, and never when the file had been written less than two seconds before it was
            hashed.

    Returns:
        The digests. Missing or unreadable files are listed in `bad`, not raised.
    """
    if index is None:
        return _hash_files(paths, ":memory:")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        return _hash_files(paths, index)
    except (OSError, sqlite3.OperationalError) as error:  # no permission, a full disk, locked by others
        logger.warning("the index of file hashes '%s' is not used: %s", index, error)
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:  # what is in it may be anything
        logger.warning("the index of file hashes '%s' is damaged (%s) and is made again", index, error)
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
    """Entries of those absolute paths that have one; SQLite takes no names that are not text."""
    rows = ((name, index.execute(_FIND, (name,)).fetchone()) for name in names if is_text(name))
    return {name: (row[:3], row[3]) for name, row in rows if row is not None}


def state_of(name: str | ImageReference) -> FileState:
    """Size in bytes, mtime and ctime in ns; raises OSError. For an image in a tar shard: size, offset, 0."""
    if isinstance(name, TarImage):
        return name.size, name.offset, 0
    status = os.stat(name)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash_unless_known(
    name: str | TarImage, known: tuple[FileState, str] | None
) -> tuple[FileState, str, str]:
    """State, digest and reason for failure (empty if none) of a file."""
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
