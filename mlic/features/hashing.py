"""sha256 of image files: the name of a row in a feature store."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlic.data.images import ImageReference
from mlic.data.tars.images import TarImage
from mlic.features.hash_index import FileState, HashIndex

logger = logging.getLogger(__name__)

DIGEST_DTYPE = "S64"  # hexadecimal: raw bytes may end in zeros, which numpy strips
CHUNK_FILES = 4096
# A file changed again within its clock's granularity keeps its times: git's "racy" entries.
RACY_NS = 2_000_000_000


@dataclass(frozen=True)
class HashedFiles:
    """Digests of files, in the order asked.

    Attributes:
        digests: (N,) `S64`, hexadecimal sha256 of the bytes; empty where the file could not be read.
        states: (N, 3) int64: size in bytes, mtime and ctime in ns, as they were before the bytes were read.
        bad: path -> reason, of the files that could not be read.
        num_read: files whose bytes were read; the others stood in the index.
    """

    digests: np.ndarray
    states: np.ndarray
    bad: dict[ImageReference, str]
    num_read: int


def hash_files(
    paths: Sequence[ImageReference], index: Path | None = None, *, num_threads: int | None = None
) -> HashedFiles:
    """Hash the bytes of files in parallel threads, or look the digests up.

    Args:
        paths: N images.
        index: file of the index of digests, made when absent; None hashes everything. It only saves time:
            lost or broken, it is made anew. Entries are trusted while size, mtime and ctime are those of the
            file, and never when the file had been written less than two seconds before it was hashed.
        num_threads: by default Python's choice for this machine.

    Images in tar shards were hashed when the shard was indexed.

    Returns:
        The digests. Missing or unreadable files are listed in `bad`, not raised.
    """
    digests = np.zeros(len(paths), dtype=DIGEST_DTYPE)
    states = np.zeros((len(paths), 3), dtype=np.int64)
    bad: dict[ImageReference, str] = {}
    num_read = 0
    with HashIndex(index) as known, ThreadPoolExecutor(num_threads) as threads:
        for start in range(0, len(paths), CHUNK_FILES):
            chunk = list(paths[start : start + CHUNK_FILES])
            names = [path if isinstance(path, TarImage) else os.path.abspath(path) for path in chunk]
            cached = known.find(name for name in names if isinstance(name, str))
            jobs = threads.map(_hash_unless_known, names, [cached.get(str(name)) for name in names])
            fresh: dict[str, tuple[FileState, str]] = {}
            for offset, (state, digest, reason) in enumerate(jobs):
                states[start + offset], digests[start + offset] = state, digest
                if reason:
                    bad[chunk[offset]] = reason
                elif isinstance(path := names[offset], TarImage):
                    continue
                elif path not in cached or cached[path][0] != state:
                    num_read += 1
                    if _is_settled(state):
                        fresh[path] = (state, digest)
            known.add(fresh)
    logger.debug("hashed %d of %d files, the others stood in the index", num_read, len(paths))
    return HashedFiles(digests, states, bad, num_read)


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
