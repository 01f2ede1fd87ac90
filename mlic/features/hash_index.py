"""The index of file digests on disk: saves reading files again, and may be lost at any time."""

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from mlic.data.table import is_text

logger = logging.getLogger(__name__)

# SQLite quotes the file in its messages, and Python decodes them
_BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)
FileState = tuple[int, int, int]  # size in bytes, mtime and ctime in ns

_CREATE = (
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, "
    "digest TEXT, checksum INTEGER) WITHOUT ROWID"
)
_FIND = "SELECT size, mtime, ctime, digest, checksum FROM files WHERE path = ?"
_ADD = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)"


class HashIndex:
    """Absolute path -> (state, digest), in one SQLite file; a context manager.

    SQLite's own journal makes it safe against a kill; a checksum in each entry against flipped bytes. Any
    trouble with the file is logged, and the index then answers as if it were empty.
    """

    def __init__(self, path: Path | None) -> None:
        """Use the file `path`; None keeps nothing."""
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Open the file; one that is no index is replaced."""
        if self.path is None:
            return self
        try:
            self._connection = self._open_or_make(self.path)
        except (
            sqlite3.OperationalError,
            OSError,
        ) as error:  # locked by others, no permission: leave it alone
            logger.warning("the index of file hashes '%s' is not used: %s", self.path, error)
        return self

    def _open_or_make(self, path: Path) -> sqlite3.Connection:
        try:
            return self._open(path)
        except sqlite3.OperationalError:
            raise
        except _BROKEN as error:
            logger.warning("the index of file hashes '%s' is broken (%s) and made anew", path, error)
            path.unlink(missing_ok=True)
            return self._open(path)

    def _open(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=30)
        try:
            connection.execute(_CREATE)
            connection.execute(_FIND, ("",))
        except (sqlite3.Error, *_BROKEN):
            connection.close()
            raise
        return connection

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def find(self, names: Iterable[str]) -> dict[str, tuple[FileState, str]]:
        """Entries of those absolute paths that have one."""
        if self._connection is None:
            return {}
        found: dict[str, tuple[FileState, str]] = {}
        try:
            for name in filter(is_text, names):
                row = self._connection.execute(_FIND, (name,)).fetchone()
                if row is not None and row[4] == _checksum(name, row[:4]):
                    found[name] = (row[:3], row[3])
        except (sqlite3.Error, *_BROKEN) as error:
            self._give_up(error)
        return found

    def add(self, entries: Mapping[str, tuple[FileState, str]]) -> None:
        """Store entries: absolute path -> (state, digest)."""
        if self._connection is None or not entries:
            return
        rows = [
            (name, *state, digest, _checksum(name, (*state, digest)))
            for name, (state, digest) in entries.items()
            if is_text(name)  # SQLite takes no other names; these files are hashed anew each time
        ]
        try:
            with self._connection:
                self._connection.executemany(_ADD, rows)
        except (sqlite3.Error, *_BROKEN) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        logger.warning("the index of file hashes '%s' is not used any further: %s", self.path, error)
        self._close()
        if self.path is not None and not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):  # a folder that is read-only
                self.path.unlink(missing_ok=True)


def _checksum(name: str, row: tuple[Any, ...]) -> int:
    return zlib.crc32(repr((name, *row)).encode("utf-8", "surrogateescape"))
