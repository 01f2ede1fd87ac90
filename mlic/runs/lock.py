"""One run a folder: a second one is refused before it changes anything there."""

import errno
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.runs.faults import explain, explained
from mlic.runs.folder import refuse_foreign_folder
from mlic.runs.processes import rank_of_process

LOCK_FILE = ".lock"
# processes that decode images outlive a run that was killed by up to five seconds, and keep its lock
PATIENCE_SECONDS = 6.0
LEAST_ROOM_BYTES = 64 * 1024

Result = TypeVar("Result")


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder of results, which is made; the system lets go of it when the process ends, however it ends.

    The same process may hold it several times. On a file system without locks nothing is held.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    lock = _acquire(Path(folder))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@explained()
def _acquire(folder: Path) -> FileLock | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"output: '{error.filename}' is a file. Expected the name of a folder.") from error
    # one object a file: another one of this process would wait for the first
    lock = FileLock(folder.resolve() / LOCK_FILE, timeout=PATIENCE_SECONDS, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"output: '{folder}' is in use by another process. Wait until that has ended, or choose another folder."
        ) from None
    except (OSError, NotImplementedError):  # read-only, or no locks: what is written there will tell
        return None
    return lock


def _check_room(folder: str) -> None:
    """Hydra's settings and a log need some; its own error would be a traceback."""
    if shutil.disk_usage(folder).free < LEAST_ROOM_BYTES:
        full = OSError(errno.ENOSPC, "No space left on device", folder)
        raise InputError(explain(full)) from full


def one_at_a_time(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorates what writes into `config.output`: it holds that folder, in the first process of several."""

    @wraps(function)
    def locked(config: DictConfig, *arguments: Any) -> Result:
        if rank_of_process():
            return function(config, *arguments)
        resumed = config.get("resume")
        with locked_folder(config.output if resumed in (None, "auto") else resumed):
            return function(config, *arguments)

    return locked


class OneRunAFolder(Callback):
    """Hydra's callback: holds the folder before Hydra writes `.hydra` and the log there, which are the other run's."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._held = ExitStack()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hold the folder, or end the process: Hydra makes a warning of any exception in a callback.

        Of several processes of one run the first holds it.
        """
        if rank_of_process():
            return
        HydraConfig.instance().set_config(
            config
        )  # Hydra does so after this, and a folder may be named by the choices
        try:
            refuse_foreign_folder(config.hydra.run.dir)
            self._held.enter_context(locked_folder(config.hydra.run.dir))
            _check_room(config.hydra.run.dir)
        except InputError as error:
            print(error, file=sys.stderr)
            raise SystemExit(1) from error

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Let go of it."""
        self._held.close()
