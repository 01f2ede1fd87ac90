import errno
from pathlib import Path

import pytest
from filelock import FileLock
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException

from mlic.data import BadImageError
from mlic.errors import InputError
from mlic.runs import lock
from mlic.runs.faults import explain, explained
from mlic.runs.folder import RunFolder, write_atomically
from mlic.runs.lock import LOCK_FILE, locked_folder
from mlic.runs.status import RunStatus


class SafetensorError(Exception):
    """By its name that of safetensors."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/a.ckpt"), "the disk is full: '/x/a.ckpt' cannot be"),
        (SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "..." })'), "the disk is full. Make room"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk is full. Make"),
        (RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"), "shared memory is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), r"no access: '/x' cannot be written \(Permission"),
        (MemoryError(), "the memory does not suffice. Lower features.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "the memory does not suffice"),
        (RuntimeError("could not create a primitive"), "the memory does not suffice"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the memory does not suffice"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), r"ended \(is killed by signal"),
        (RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), r"has ended \(exited unexpectedly\)"),
    ],
)  # fmt: skip
def test_what_the_machine_does_is_told_with_a_way_on(error: Exception, message: str):
    with pytest.raises(InputError, match=message) as told, explained():
        raise error
    assert told.value.__cause__ is error
    assert "goes on" not in str(told.value)  # only the command knows what is kept


def behind(
    error: Exception, *, cause: Exception | None = None, context: Exception | None = None
) -> Exception:
    error.__context__ = context
    if cause is not None:
        error.__cause__ = cause
    return error


def test_the_systems_error_is_found_behind_that_of_a_library():
    full = OSError(errno.ENOSPC, "No space left on device", "a.ckpt")
    denied = PermissionError(errno.EACCES, "Permission denied", "/x")
    # what torch raises where the file of its archive could not be written
    message = explain(behind(RuntimeError("unexpected pos 704 vs 598"), context=full))
    assert message == "the disk is full: 'a.ckpt' cannot be written. Make room, or choose another place."
    message = explain(behind(RuntimeError("no store"), cause=behind(KeyError("a"), context=denied)))
    assert message is not None and message.startswith("no access: '/x' cannot be written")
    hidden = behind(RuntimeError("it is not there"), context=denied)
    hidden.__suppress_context__ = True  # `from None`
    assert explain(hidden) is None


def test_other_errors_pass():
    for error in (
        ValueError("No space left on device"),
        OSError(errno.ENOENT, "No such file"),
        KeyError("out of memory"),
    ):
        assert explain(error) is None
        with pytest.raises(type(error)) as passed, explained():
            raise error
        assert passed.value is error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 300, r"the name '.*aaa.*' is too long for the file system. Choose"),
        ("a\0b", "contains a NUL character"),
    ],
)
def test_names_that_no_file_can_have(name: str, message: str, tmp_path: Path):
    # train, tune and verify hold their folder; the other commands are decorated by `explained`
    with pytest.raises(InputError, match=message), locked_folder(tmp_path / name):
        pass
    with pytest.raises(InputError, match=message), explained():
        write_atomically(tmp_path / name, "")


def test_what_a_constructor_refuses_is_told_without_hydras_wrapping():
    def wrapped(cause: Exception) -> InstantiationException:
        error = InstantiationException(f"Error in call to target 'x':\n{cause!r}\nfull_key: model.backbone")
        error.__cause__ = cause
        return error

    assert (
        explain(wrapped(InputError("model.backbone.pool: 'x' is none of avg.")))
        == "model.backbone.pool: 'x' is none of avg."
    )
    assert explain(wrapped(ValueError("too big"))) == (
        "model.backbone: too big. Correct it there, or leave it at its default."
    )
    # trainer=cuda without a GPU
    assert explain(wrapped(MisconfigurationException("No supported gpu backend found!"))) == (
        "model.backbone: No supported gpu backend found. Correct it there, or leave it at its default."
    )
    assert explain(wrapped(ZeroDivisionError())) is None


def test_an_error_of_a_worker_process_comes_without_its_traceback():
    text = "Caught BadImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    with pytest.raises(InputError) as told, explained():
        raise BadImageError(f"{text}mlic.data.images.BadImageError: a.jpg: no such file\n")
    assert str(told.value) == "a.jpg: no such file"


def test_a_status_that_cannot_be_written_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(KeyError, match="the reason"), RunStatus(RunFolder(tmp_path)) as status:  # noqa: PT012
        monkeypatch.setattr(
            status.folder, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with status.phase("fit"):
            raise KeyError("the reason")


def test_a_failed_write_leaves_the_former_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "a.json"
    write_atomically(file, "former")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(file, "new")
    assert file.read_bytes() == b"former" and list(tmp_path.iterdir()) == [file]


def test_a_folder_is_held_once_by_others_and_again_by_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.05)
    with locked_folder(tmp_path / "run"), locked_folder(str(tmp_path / "run")):
        assert (tmp_path / "run" / LOCK_FILE).is_file()
    with (
        FileLock(tmp_path / "run" / LOCK_FILE),
        pytest.raises(InputError, match=r"run' is in use by another process"),
    ):
        locked_folder(tmp_path / "run").__enter__()
    with locked_folder(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output: '.*file' is a file\. Expected the name of a folder"):
        locked_folder(tmp_path / "file").__enter__()
