"""How the processes begin that decode images."""

import os
import sys
from types import TracebackType

DECODER_NICENESS = 5


def start_worker(worker: int) -> None:
    """Let a worker end without a traceback when the process that it hands images to ends; a `worker_init_fn`.

    A thread of Python's multiprocessing hands the images over, and prints the broken connection. What ended the other
    process is told there.
    """
    sys.excepthook = _tell_all_but_a_broken_connection


def start_background_worker(worker: int) -> None:
    """Do the same at a lower priority, for a network that computes on the same cores; a `worker_init_fn`.

    The workers then fill the gaps instead of tearing apart the network's threads, which wait for each other.
    """
    start_worker(worker)
    if hasattr(os, "nice"):
        os.nice(DECODER_NICENESS)


def _tell_all_but_a_broken_connection(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, traceback)
