"""Work side by side in threads on the processor, each with some of the cores, instead of all cores at each product."""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

import torch
from torch import Tensor

MOST_LANES = 8  # Python itself runs in one thread at a time
LEAST_IMAGES = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_lanes(
    function: Callable[[Item], Result], items: Sequence[Item], lanes: int, stop: Event | None = None
) -> list[Result]:
    """`[function(item) for item in items]`, so many at a time; they share torch's threads among them.

    The threads of one product wait for each other, and whatever else runs on a core holds up all of them. Lanes meet
    at the end. What a thread has of its own (gradients on or off, inference mode, autocast) `function` sets itself.

    Args:
        function: safe to run in several threads at once; it uses the processor alone.
        items: its arguments.
        lanes: how many at a time; 1 for this thread alone.
        stop: set after an error or a signal, for functions that look at it and end early. No further item is begun.
    """
    lanes = min(lanes, len(items))
    if lanes <= 1:
        return [function(item) for item in items]
    threads, stop = torch.get_num_threads(), stop or Event()
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    waiting, begun, ready = SimpleQueue[int](), Semaphore(0), Event()
    for place in range(len(items)):
        waiting.put(place)

    def work() -> None:
        torch.get_num_threads()  # a thread takes over the number of all threads at its first question, and only then
        torch.set_num_threads(max(1, threads // lanes))
        begun.release()
        ready.wait()
        while not stop.is_set():
            try:
                place = waiting.get_nowait()
            except Empty:
                return
            try:
                results[place] = function(items[place])
            except BaseException as error:
                errors.append(error)
                stop.set()

    started: list[Thread] = []
    try:
        for number in range(lanes):
            thread = Thread(target=work, name=f"lane {number}")
            thread.start()
            started.append(thread)
        for _ in started:
            begun.acquire()
        torch.set_num_threads(threads)  # for this thread, and for those that others begin meanwhile
        ready.set()
        for thread in started:
            thread.join()
    except BaseException:  # of a signal
        stop.set()
        raise
    finally:
        ready.set()
        for thread in started:
            thread.join()
        torch.set_num_threads(threads)
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(items))]


def rows_in_lanes(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """The same as `function(batch)`, which works on each row by itself and takes no gradients.

    All parts have one size, so that a row does not depend on its place.

    Args:
        function: (b, ...) -> (b, ...), safe to run in several threads at once.
        batch: (B, ...), on the processor.
    """
    lanes = num_lanes(len(batch), torch.get_num_threads())
    if lanes == 1:
        return function(batch)
    inference = torch.is_inference_mode_enabled()

    def run(part: Tensor) -> Tensor:
        with torch.inference_mode(inference), torch.set_grad_enabled(False):
            return function(part)

    return torch.cat(in_lanes(run, batch.chunk(lanes), lanes))


def num_lanes(batch_size: int, threads: int) -> int:
    """Into how many parts of equal size, none of few images, a batch is split, so that most threads have work."""
    most = min(threads, MOST_LANES, batch_size // LEAST_IMAGES)
    possible = [lanes for lanes in range(2, most + 1) if batch_size % lanes == 0]
    return max([1, *possible], key=lambda lanes: (lanes * (threads // lanes), lanes))
