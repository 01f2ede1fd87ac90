"""Translation of system errors, and errors of objects created by Hydra, to `InputError`s with a remedy."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import InstantiationException

from mlic.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
# safetensors and shared memory of torch have no errno; torch and oneDNN have no class for CPU memory errors
FULL_TEXTS = ("No space left on device", "StorageFull")
MEMORY_TEXTS = ("can't allocate memory", "out of memory", "could not create a primitive")
WORKERS = "use fewer worker processes (data.num_workers, features.num_workers or num_workers; 0 for none)"


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
    if isinstance(error, RuntimeError) and "/torch_" in text:
        return f"shared memory is full (/dev/shm): {WORKERS}, or enlarge it."
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" in text:
        return f"a worker process was killed, usually because memory ran out: {WORKERS}."
    if (system is not None and system.errno in FULL) or _has(error, FULL_TEXTS):
        return f"the disk is full{place}. Free some space, or choose another location."
    if system is not None and system.errno in NO_ACCESS:
        return (
            f"no access{place} ({system.strerror}). Change the permissions, or choose another location (output, "
            "features.dir or MLIC_CACHE)."
        )
    if system is not None and system.errno == errno.ENAMETOOLONG:
        return f"the name '{system.filename}' is too long for the file system. Choose a shorter one."
    if isinstance(error, MemoryError) or _has(error, MEMORY_TEXTS):
        return (
            "out of memory. Lower features.batch_size and data.batch_size (or batch_size), use fewer processes "
            "(num_workers), pool the features (model.backbone.pool=avg), or request more memory."
        )
    return None


def _has(error: BaseException, texts: tuple[str, ...]) -> bool:
    # such words in values and keys do not indicate a system error
    own = not isinstance(error, ValueError | TypeError | LookupError)
    return own and any(text in str(error) for text in texts)


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the underlying system error; the archive of torch reports a failed write as `unexpected pos`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (*FULL, *NO_ACCESS, errno.ENAMETOOLONG):
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
