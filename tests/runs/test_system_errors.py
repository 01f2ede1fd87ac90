import errno

import pytest
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException

from mlic.data import BadImageError
from mlic.errors import InputError
from mlic.runs.system_errors import translate, translated_errors

FULL = OSError(errno.ENOSPC, "No space left on device", "a.ckpt")
DENIED = PermissionError(errno.EACCES, "Permission denied", "/x")


class SafetensorError(Exception):
    """By its name that of safetensors."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FULL, "the disk is full: 'a.ckpt' cannot be written. Free some space"),
        (SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "..." })'), "the disk is full. Free"),
        (RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"), "or shared"),
        (DENIED, r"no access: '/x' cannot be written \(Permission denied\)"),
        (MemoryError(), "out of memory, .* Lower features.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), "out of memory"),
    ],
)  # fmt: skip
def test_errors_of_the_machine_say_what_to_do(error: Exception, message: str):
    with pytest.raises(InputError, match=message) as raised, translated_errors():
        raise error
    assert raised.value.__cause__ is error


def test_the_systems_error_is_found_behind_that_of_a_library():
    # what torch raises where the file of its archive could not be written
    error = RuntimeError("unexpected pos 704 vs 598")
    error.__context__ = FULL
    assert (translate(error) or "").startswith("the disk is full: 'a.ckpt'")
    cause, error = KeyError("a"), RuntimeError("no store")
    cause.__context__, error.__cause__ = DENIED, cause
    assert (translate(error) or "").startswith("no access: '/x'")
    error = RuntimeError("it is not there")
    error.__context__, error.__suppress_context__ = DENIED, True  # `from None`
    assert translate(error) is None


def test_a_constructors_error_comes_without_hydras_wrapping():
    def wrapped(cause: Exception) -> InstantiationException:
        error = InstantiationException(f"Error in call to target 'x':\n{cause!r}\nfull_key: model.backbone")
        error.__cause__ = cause
        return error

    assert translate(wrapped(InputError("model.backbone.pool: 'x'"))) == "model.backbone.pool: 'x'"
    # trainer=cuda without a GPU
    for cause in (ValueError("too big."), MisconfigurationException("too big!")):
        message = "model.backbone: too big. Correct it, or use its default."
        assert translate(wrapped(cause)) == message
    assert translate(wrapped(ZeroDivisionError())) is None


def test_an_error_of_a_worker_process_comes_without_its_traceback():
    text = "Caught BadImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    with pytest.raises(InputError) as raised, translated_errors():
        raise BadImageError(f"{text}mlic.data.images.BadImageError: a.jpg: no such file\n")
    assert str(raised.value) == "a.jpg: no such file"
