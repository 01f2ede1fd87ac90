"""Ctrl-C and SIGTERM end a run in order: state and log are written, and the exit status says why."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# of the outermost `ending_on_signals` of this process
_received: list[int] = []
_handlers_before: dict[int, Any] = {}


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise SystemExit(128 + number), the shell's convention; the second ends at once.

    SystemExit, because Lightning ends the process with status 1 on KeyboardInterrupt, and Hydra goes on with the next
    job after any Exception. Nothing is saved then: the last finished epoch's checkpoint lies on the disk already.
    Contexts may be nested. Outside the main thread, where there are no signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_outermost = not _handlers_before
    if is_outermost:
        _install_handlers()
    try:
        exit_if_signalled()
        yield
        exit_if_signalled()
    except Exception as error:
        # what broke on the way out, such as a worker that got the same Ctrl-C, is not the reason
        if _received:
            raise SystemExit(128 + _received[0]) from error
        raise
    finally:
        if is_outermost:
            for number, handler in _handlers_before.items():
                signal.signal(number, handler)
            _handlers_before.clear()
            _received.clear()


def exit_if_signalled() -> None:
    """Raise SystemExit again after a signal: Python ignores one that is raised inside a destructor."""
    if _received:
        raise SystemExit(128 + _received[0])


def _install_handlers() -> None:
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker, which ends quietly and leaves the rest to its parent
            os._exit(0)
        if _received:
            os._exit(128 + number)
        _received.append(number)
        # torch's handler raises for workers that got the same signal, in the middle of what is written now
        _handlers_before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        raise SystemExit(128 + number)

    _handlers_before.update({number: signal.signal(number, handle) for number in SIGNALS})


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until a short piece of work is done, such as renaming files that belong together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    # not a mask, which holds for one thread alone: the system would hand the signal to another
    before = {number: signal.signal(number, lambda number, _: waiting.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)
