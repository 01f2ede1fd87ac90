"""Translation of system errors, and errors of objects created by Hydra, to `InputError`s with a remedy."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import InstantiationException

from mlic.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
# safetensors has no errno; torch and oneDNN have no class for CPU memory and for killed worker processes
FULL_TEXT = "StorageFull"
MEMORY_TEXTS = (
    "can't allocate memory", "out of memory", "could not create a primitive", "/torch_", "DataLoader worker (pid",
)  # fmt: skip


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate a full disk, missing access, exhausted memory and errors wrapped by Hydra to an `InputError`.

    It is also a decorator. Other errors are unchanged.

    Raises:
        InputError: a description and a remedy; the original error is its cause.
    """
    try:
        yield
    except Exception as error:
        message = translate(error)
        if message is None:
            raise
        raise InputError(message, key=key_of(error)) from error


def key_of(error: BaseException) -> str | None:
    """Return the `key` of an `InputError`, also if Hydra has wrapped it; None for other errors."""
    cause = _unwrap(error)
    return cause.key if isinstance(cause, InputError) else None


def _unwrap(error: BaseException) -> BaseException | None:
    cause: BaseException | None = error
    while isinstance(cause, InstantiationException):
        cause = cause.__cause__
    return cause


def translate(error: BaseException) -> str | None:
    """Return a description and a remedy of an error, or None if it needs no translation."""
    text = str(error)
    if isinstance(error, InputError):
        # torch puts the traceback of a worker process around its message
        _, marker, message = text.rpartition(f"{type(error).__name__}: ")
        return message.strip() if marker and "Original Traceback" in text else None
    if isinstance(error, InstantiationException):
        return _refused_setting(error)
    # compared by name, because importing Lightning takes seconds
    if type(error).__name__ == "MisconfigurationException":
        return f"{' '.join(text.split())} Change the settings of callbacks or trainer."
    system = _system_error(error)
    place = f": '{system.filename}' cannot be written" if system is not None and system.filename else ""
    # such words in values and keys do not indicate a system error
    is_other = isinstance(error, ValueError | TypeError | LookupError)
    if isinstance(error, MemoryError) or (not is_other and any(part in text for part in MEMORY_TEXTS)):
        return (
            "out of memory, or shared memory (/dev/shm) is full. Lower features.batch_size and data.batch_size (or "
            "batch_size), use fewer worker processes (num_workers; 0 for none), pool the features "
            "(model.backbone.pool=avg), or request more memory."
        )
    if (system is not None and system.errno in FULL) or (not is_other and FULL_TEXT in text):
        return f"the disk is full{place}. Free some space, or choose another location."
    if system is not None:
        return (
            f"no access{place} ({system.strerror}). Change the permissions, or choose another location (output, "
            "features.dir or MLIC_CACHE)."
        )
    return None


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the underlying system error; the archive of torch reports a failed write as `unexpected pos`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (*FULL, *NO_ACCESS):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _refused_setting(error: InstantiationException) -> str | None:
    """Return the message of a constructor about its settings, without the text added by Hydra."""
    cause = _unwrap(error)
    if isinstance(cause, InputError):
        return str(cause)
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # slow, and loaded by then

    if not isinstance(cause, ValueError | TypeError | MisconfigurationException):
        return None if cause is None else translate(cause)
    key = re.search(r"full_key: (\S+)", str(error))
    reason = str(cause).rstrip(".!")
    return f"{key[1] if key else 'a setting'}: {reason}. Correct it, or use its default."
