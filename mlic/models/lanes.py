"""Work side by side in threads on the processor, each with some of the cores, instead of all cores at each product."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

LEAST_IMAGES = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], lanes: int) -> Iterator[Result]:
    """`map(function, items)`, so many at a time, to be read to the end; they share torch's threads among them.

    The threads of one product wait for each other, and whatever else runs on a core holds up all of them. Lanes meet
    at the end. After an error no further item is begun. What a thread has of its own (gradients on or off, inference
    mode, autocast) `function` sets itself.
    """
    threads = torch.get_num_threads()

    def run(item: Item) -> Result:
        torch.set_num_threads(max(1, threads // lanes))
        return function(item)

    pool = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
    try:
        yield from pool.map(run, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a part of torch keeps one number for all threads


LEAST_IMAGES = 8


def num_lanes(batch_size: int, threads: int) -> int:
    """Into how many parts of equal size, none of few images, a batch is best split for so many threads."""
    most = min(threads, batch_size // LEAST_IMAGES)
    return max(
        (lanes for lanes in range(1, most + 1) if batch_size % lanes == threads % lanes == 0), default=1
    )


def in_lanes(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
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

    return torch.cat(list(side_by_side(run, batch.chunk(lanes), lanes)))
