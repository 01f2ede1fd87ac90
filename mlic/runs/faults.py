"""What a machine does to a run, told as what to do about it: a full disk, a folder without rights, no memory."""

import errno
import logging
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from hydra.errors import InstantiationException

from mlic.errors import InputError

logger = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
# what libraries say that hand on no number of the system's error; of primitives oneDNN speaks
_FULL_TEXT = re.compile(
    r"No space left on device|StorageFull|QuotaExceeded|PytorchStreamWriter failed|file write failed"
)
_MEMORY_TEXT = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory"
    r"|could not create a (primitive|memory)",
    re.IGNORECASE,
)
_SHARED_TEXT = re.compile(r"/torch_|/dev/shm|shared memory|shm", re.IGNORECASE)
_MONITOR_TEXT = re.compile(r"could not find the monitored key|conditioned on metric")
_WORKER_TEXT = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (.*)", re.DOTALL)


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of a full disk, missing rights, missing memory and killed processes into an `InputError`.

    Also what Hydra makes of an error in a constructor.

    Also a decorator. Errors of other kinds pass.

    Raises:
        InputError: what happened, and what to do about it; the original error is its cause.
    """
    try:
        yield
    except InputError as error:
        original = _of_worker(error)
        if original is None:
            raise
        raise InputError(original) from error
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        raise InputError(message) from error


def quiet_side_writers() -> None:
    """Let log files and threads of libraries, such as TensorBoard's, fail on a full disk without a traceback.

    The run's own files lie on that disk too: the error that ends it says what happened.
    """
    logging.raiseExceptions = False
    threading.excepthook = _tell_thread_error


def _tell_thread_error(arguments: threading.ExceptHookArgs) -> None:
    message = None if arguments.exc_value is None else explain(arguments.exc_value)
    if message is None:
        threading.__excepthook__(arguments)
    else:
        logger.warning("%s ended: %s", arguments.thread.name if arguments.thread else "a thread", message)


def explain(error: BaseException) -> str | None:
    """What happened and what to do about it; None for an error that is not the machine's."""
    text = str(error)
    if isinstance(error, InstantiationException):
        return _refused_setting(error)
    if _MONITOR_TEXT.search(text) and not isinstance(error, InputError):
        return (
            f"the metric to choose an epoch by is not there ({' '.join(text.split())[:300]}). A metric has no value "
            "where no image of the val part has a label. Choose another one (callbacks.checkpoint.monitor=val/loss "
            "callbacks.checkpoint.mode=min), other images (data.split), or do without (data.split.val=0)."
        )
    if _is_worker_gone(error, text):
        return (
            f"a process that decodes images has ended ({_worker_end(text)}), as a rule because the system ran out of "
            "memory or of shared memory. Use fewer of them: data.num_workers, features.num_workers or num_workers, 0 "
            "for none."
        )
    full = _with_number(error, FULL)
    if full is not None or _is_full(error, text):
        if _SHARED_TEXT.search(str(full or text)):
            return (
                "shared memory is full, through which processes hand on images (/dev/shm; in a container its size is "
                "an option). Use fewer of them: data.num_workers, features.num_workers or num_workers, 0 for none."
            )
        return f"the disk is full{_place(full)}. Make room, or choose another place."
    denied = _with_number(error, NO_RIGHTS)
    if denied is not None:
        return (
            f"no access{_place(denied)} ({denied.strerror}). Change its rights, or choose another place (output, "
            "features.dir, or MLIC_CACHE for what is stored)."
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"the name '{error.filename}' is too long for the file system. Choose a shorter one."
    if isinstance(error, ValueError) and "embedded null" in text:
        return "the name of a file or folder contains a NUL character. Choose another one."
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and _MEMORY_TEXT.search(text)
    ):
        return (
            "the memory does not suffice. Lower features.batch_size and data.batch_size (or batch_size), use fewer "
            "processes (num_workers), pool the features (model.backbone.pool=avg), or ask for more memory."
        )
    return None


def _refused_setting(error: InstantiationException) -> str | None:
    """What a constructor said of its settings, without what Hydra puts around it."""
    cause: BaseException | None = error
    while isinstance(cause, InstantiationException):
        cause = cause.__cause__
    if isinstance(cause, InputError):
        return str(cause)
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # slow, and loaded by then

    if not isinstance(cause, ValueError | TypeError | MisconfigurationException):
        return None if cause is None else explain(cause)
    key = re.search(r"full_key: (\S+)", str(error))
    reason = str(cause).rstrip(".!")
    return f"{key[1] if key else 'a setting'}: {reason}. Correct it there, or leave it at its default."


def _with_number(error: BaseException | None, numbers: Collection[int]) -> OSError | None:
    """The system's error behind this one: torch's archive says `unexpected pos` where a write has failed."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _is_full(error: BaseException, text: str) -> bool:
    # safetensors and torch have error classes of their own
    return not isinstance(error, ValueError | TypeError | KeyError) and _FULL_TEXT.search(text) is not None


def _is_worker_gone(error: BaseException, text: str) -> bool:
    return isinstance(error, RuntimeError) and _WORKER_TEXT.search(text) is not None


def _worker_end(text: str) -> str:
    found = _WORKER_TEXT.search(text)
    return " ".join(found[1].split())[:200].rstrip(". ") if found else ""


def _place(error: OSError | None) -> str:
    name = getattr(error, "filename", None)
    return f": '{name}' cannot be written" if name else ""


def _of_worker(error: InputError) -> str | None:
    """The message of an error that a worker process raised, without the traceback that torch puts around it."""
    text = str(error)
    if not text.startswith("Caught ") or "Original Traceback" not in text:
        return None
    _, marker, message = text.rpartition(f"{type(error).__name__}: ")
    return message.strip() if marker else None
