"""The first signal ends a run in order, the second at once."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from mlic.runs.signals import delayed_signals, ending_on_signals

LONG = 60  # seconds: nothing here waits so long
Start = Callable[[Callable[[], None]], int]


@pytest.fixture
def start(tmp_path: Path):
    """A function (work) -> id of a process that does it inside `ending_on_signals`, and has begun."""

    def begin(work: Callable[[], None]) -> int:
        process = os.fork()
        if process == 0:
            _run(work, tmp_path)
        wait_for(tmp_path / "begun")
        return process

    return begin


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
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_run_clean_up(
    number: signal.Signals, code: int, start: Start, tmp_path: Path
):
    """Also where torch raises for a worker that got the same signal."""

    def raise_for_a_worker(number: int, frame: object) -> NoReturn:
        raise RuntimeError("a worker is gone")

    def work() -> None:
        signal.signal(signal.SIGCHLD, raise_for_a_worker)
        try:
            time.sleep(LONG)
        finally:
            subprocess.run(["true"])
            (tmp_path / "cleaned").touch()

    process = start(work)
    os.kill(process, number)
    assert exit_status(process) == code and (tmp_path / "cleaned").exists()


def test_the_second_ends_a_run_that_is_still_cleaning_up(start: Start, tmp_path: Path):
    def work() -> None:
        try:
            time.sleep(LONG)
        finally:
            (tmp_path / "cleaning").touch()
            time.sleep(LONG)
            (tmp_path / "cleaned").touch()

    process = start(work)
    os.kill(process, signal.SIGINT)
    wait_for(tmp_path / "cleaning")
    os.kill(process, signal.SIGTERM)
    assert exit_status(process) == 143 and not (tmp_path / "cleaned").exists()


def test_a_signal_is_not_lost_where_a_destructor_ignores_its_exception(start: Start, tmp_path: Path):
    class SlowToEnd:
        def __del__(self) -> None:
            (tmp_path / "ending").touch()
            time.sleep(LONG)

    def work() -> None:
        SlowToEnd()
        with pytest.raises(SystemExit, match="130"), ending_on_signals():
            (tmp_path / "next job").touch()

    process = start(work)
    wait_for(tmp_path / "ending")
    os.kill(process, signal.SIGINT)
    assert exit_status(process) == 130 and not (tmp_path / "next job").exists()


def test_a_signal_waits_for_a_short_piece_of_work_and_handlers_are_restored():
    before, done = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(SystemExit) as ended, ending_on_signals():  # noqa: PT012
        with delayed_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("held")
        done.append("too late")
    assert ended.value.code == 143 and done == ["held"]
    assert signal.getsignal(signal.SIGTERM) == before
