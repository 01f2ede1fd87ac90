"""The first signal ends a run in order, the second at once."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from mlic.runs.signals import ending_on_signals, signals_held

LONG = 60  # seconds: nothing here waits so long


@pytest.fixture
def started(tmp_path: Path):
    """A function (work) -> id of a process that does it inside `ending_on_signals`, and has begun."""
    processes: list[int] = []

    def start(work: Callable[[], None]) -> int:
        process = os.fork()
        if process == 0:
            _run(work, tmp_path)
        processes.append(process)
        wait_for(tmp_path / "begun")
        return process

    yield start
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _run(work: Callable[[], None], folder: Path) -> NoReturn:
    """In the new process; 99 where the work was not ended by SystemExit."""
    code = 99
    # a shell starts a command in the background with SIGINT ignored, and its children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ending_on_signals():
            (folder / "begun").touch()
            work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 98
    finally:
        os._exit(code)


def wait_for(path: Path) -> None:
    end = time.monotonic() + LONG / 2
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.005)


def exit_status(process: int) -> int:
    """As `subprocess` gives it: that of a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_run_clean_up(
    number: signal.Signals, code: int, started: Callable[[Callable[[], None]], int], tmp_path: Path
):
    def work() -> None:
        try:
            time.sleep(LONG)
        finally:
            (tmp_path / "cleaned").touch()

    process = started(work)
    os.kill(process, number)
    assert exit_status(process) == code and (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ends_a_run_that_is_still_cleaning_up(
    second: signal.Signals, started: Callable[[Callable[[], None]], int], tmp_path: Path
):
    def work() -> None:
        try:
            time.sleep(LONG)
        finally:
            (tmp_path / "cleaning").touch()
            time.sleep(LONG)
            (tmp_path / "cleaned").touch()

    process = started(work)
    os.kill(process, signal.SIGINT)
    wait_for(tmp_path / "cleaning")
    os.kill(process, second)
    assert exit_status(process) == -second and not (tmp_path / "cleaned").exists()


def test_a_child_that_got_the_same_signal_does_not_disturb_the_end(
    started: Callable[[Callable[[], None]], int], tmp_path: Path
):
    """Torch raises in its handler of SIGCHLD, which would keep the last rows of an extraction from being written."""

    def raise_for_a_worker(number: int, frame: object) -> NoReturn:
        raise RuntimeError("a worker is gone")

    def work() -> None:
        signal.signal(signal.SIGCHLD, raise_for_a_worker)
        try:
            time.sleep(LONG)
        finally:
            subprocess.run(["true"])
            (tmp_path / "cleaned").touch()

    process = started(work)
    os.kill(process, signal.SIGTERM)
    assert exit_status(process) == 143 and (tmp_path / "cleaned").exists()


def test_the_second_ends_it_where_the_handler_was_put_back(
    started: Callable[[Callable[[], None]], int], tmp_path: Path
):
    """As Lightning does with that of SIGTERM at the end of training."""

    def work() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            time.sleep(LONG)
        finally:
            signal.signal(signal.SIGTERM, handler)
            (tmp_path / "cleaning").touch()
            try:
                time.sleep(LONG)
            finally:
                (tmp_path / "cleaned").touch()

    process = started(work)
    os.kill(process, signal.SIGTERM)
    wait_for(tmp_path / "cleaning")
    os.kill(process, signal.SIGTERM)
    assert exit_status(process) == 143 and not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_a_short_piece_of_work(number: signal.Signals, code: int):
    done = []
    with pytest.raises(SystemExit) as ended, ending_on_signals():  # noqa: PT012
        with signals_held():
            signal.raise_signal(number)
            done.append("held")
        done.append("too late")
    assert ended.value.code == code and done == ["held"]


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ending_on_signals():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
