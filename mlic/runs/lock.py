"""Locks of run folders: a second run is refused before it changes anything."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.runs.processes import rank_of_process

LOCK_FILE = ".lock"
# worker processes outlive a killed run by up to five seconds, and keep its lock
PATIENCE_SECONDS = 6.0

Result = TypeVar("Result")


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """Create and lock a folder of results. The system releases the lock when the process ends.

    The same process may lock it several times. On a file system without locks this has no effect.

    Raises:
        InputError: another process holds the lock, or the folder cannot be created.
    """
    lock = _acquire(Path(folder))
    try:
        yield
    finally:
        lock.release()


def _acquire(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output: the folder '{folder}' cannot be created: {error}.") from error
    # one object per file, because a second one in this process would wait for the first
    lock = FileLock(folder.resolve() / LOCK_FILE, timeout=PATIENCE_SECONDS, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"output: '{folder}' is in use by another process. Wait until it has ended, or choose another folder."
        ) from None
    except (
        OSError,
        NotImplementedError,
    ):  # read-only, or no support for locks; writing will report an error if needed
        pass
    return lock


def one_at_a_time(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a function that writes to `config.output`, so that the first process of a run locks the folder."""

    @wraps(function)
    def locked(config: DictConfig, *arguments: Any) -> Result:
        if rank_of_process():
            return function(config, *arguments)
        resumed = config.get("resume")
        with locked_folder(config.output if resumed in (None, "auto") else resumed):
            return function(config, *arguments)

    return locked
