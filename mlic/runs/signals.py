"""Handling of Ctrl-C and SIGTERM: state and log are written, and the exit status shows the signal."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# state of the outermost `ending_on_signals` of this process
_received: list[int] = []
_handlers_before: dict[int, Any] = {}


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise SystemExit(128 + number), the convention of shells, on the first SIGINT or SIGTERM; the second one kills.

    SystemExit is used because Lightning exits with status 1 on KeyboardInterrupt, and Hydra continues with the next job
    after any Exception. Nothing needs to be saved, because the checkpoint of the last finished epoch is already on
    disk. Contexts may be nested. Outside the main thread, which alone receives signals, this has no effect.
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
        # errors during the exit, such as of a worker that received the same Ctrl-C, are not the reason
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
    """Raise SystemExit again after a signal, because Python ignores exceptions raised inside a destructor."""
    if _received:
        raise SystemExit(128 + _received[0])


def _install_handlers() -> None:
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker, which exits silently and leaves the rest to its parent
            os._exit(0)
        if _received:
            os._exit(128 + number)
        _received.append(number)
        # the handler of torch raises errors for workers that received the same signal, which could interrupt writing
        _handlers_before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        raise SystemExit(128 + number)

    _handlers_before.update({number: signal.signal(number, handle) for number in SIGNALS})


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until a short operation is finished, such as renaming files that belong together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    # not a signal mask, which applies to only one thread: the system would deliver the signal to another
    before = {number: signal.signal(number, lambda number, _: waiting.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)
