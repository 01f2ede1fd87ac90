"""How the processes that decode images begin, and hand on their batches."""

import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

DECODER_NICENESS = 5
Batch = Sequence[Any]


class SharedCollate:
    """Collates, and in a worker process moves the batch's tensors into shared memory; a `collate_fn`.

    Otherwise torch moves them in a background thread of the worker, whose errors reach nobody: with shared memory full
    the loader would wait for that batch forever.
    """

    def __init__(self, collate: Callable[[list[Any]], Batch]) -> None:
        """Wrap a `collate_fn` that gives a sequence of tensors and other objects."""
        self.collate = collate

    def __call__(self, items: list[Any]) -> Batch:
        """Collate the items.

        Raises:
            RuntimeError: there is no room left in shared memory.
        """
        batch = self.collate(items)
        if get_worker_info() is not None:
            for part in batch:
                if isinstance(part, Tensor):
                    part.share_memory_()
        return batch


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
