"""Ctrl-C and SIGTERM end a run in order: state and log are written, and the exit status says why."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise SystemExit(128 + number), the shell's convention; the second ends at once.

    SystemExit, because Lightning ends the process with status 1 on KeyboardInterrupt, and Hydra goes on with the next
    job after any Exception. Nothing is saved then: the last finished epoch's checkpoint lies on the disk already.
    Outside the main thread, where there are no signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, received = os.getpid(), []

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            _in_worker(number)
        elif received:  # where Lightning has put this handler back
            os._exit(128 + number)
        else:
            received.append(number)
            for each in SIGNALS:  # the default also ends a process that is busy outside Python
                signal.signal(each, signal.SIG_DFL)
            if hasattr(signal, "SIGCHLD"):
                # torch's handler raises, wherever it is called, for a worker that got the same signal. Not SIG_DFL:
                # Python would print a traceback if a child ended at the same time
                before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    except BaseException as error:
        # what broke on the way out, such as a worker that got the same Ctrl-C, is not the reason
        if received and not isinstance(error, SystemExit):
            raise SystemExit(128 + received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until a short piece of work is done, such as renaming files that belong together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: waiting.append(number)) for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


def _in_worker(number: int) -> None:
    """Ctrl-C reaches the whole process group: a worker waits for its parent to end it."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
