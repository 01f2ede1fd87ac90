"""Who uses a store: one process adds to it, any number read it, and it is removed only while nobody does either."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where a file cannot be removed while it is open
    fcntl = None

LOCKS = ".locks"


def lock_file(folder: Path, suffix: str = ".lock") -> Path:
    """The file to lock for a store; outside its folder, so that removing a store removes no lock others wait for."""
    return folder.parent / LOCKS / f"{folder.name}{suffix}"


@contextmanager
def without_readers(folder: Path) -> Iterator[None]:
    """Keep readers out of a store; on a file system without locks nobody knows of them.

    Raises:
        BlockingIOError: a process reads it.
    """
    descriptor = hold(folder, alone=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def hold(folder: Path, *, alone: bool = False) -> int | None:
    """Read a store: the descriptor returned keeps it from being removed until it is closed, or the process ends.

    Waits while the store is being removed. None on a file system without locks, where nothing is held.

    Args:
        folder: of the store.
        alone: to remove it instead; does not wait.

    Raises:
        BlockingIOError: `alone`, and a process reads it.
    """
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = _open(folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def _open(folder: Path) -> int:
    """The file that readers share and a remover has for itself."""
    path = lock_file(folder, ".readers")
    with suppress(OSError):  # a folder that is read-only
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    return os.open(path, os.O_RDONLY)
