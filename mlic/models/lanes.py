"""Forward passes on the processor: parts of a batch side by side, instead of all cores at each layer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

LEAST_IMAGES = 8


def num_lanes(batch_size: int, threads: int) -> int:
    """Into how many parts of equal size, none of few images, a batch is best split for so many threads."""
    most = min(threads, batch_size // LEAST_IMAGES)
    return max(
        (lanes for lanes in range(1, most + 1) if batch_size % lanes == threads % lanes == 0), default=1
    )


def in_lanes(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """The same as `function(batch)`, which works on each row by itself and takes no gradients.

    The threads of one product wait for each other at every layer, and whatever else runs on a core holds up all of
    them. Lanes meet once a batch. All parts have one size, so that a row does not depend on its place.

    Args:
        function: (b, ...) -> (b, ...), safe to run in several threads at once.
        batch: (B, ...), on the processor.
    """
    threads = torch.get_num_threads()
    lanes = num_lanes(len(batch), threads)
    if lanes == 1:
        return function(batch)

    def run(part: Tensor) -> Tensor:
        torch.set_num_threads(threads // lanes)
        with torch.inference_mode(inference), torch.set_grad_enabled(False):  # both are a thread's own
            return function(part)

    inference = torch.is_inference_mode_enabled()
    try:
        with ThreadPoolExecutor(lanes, thread_name_prefix="lane") as pool:
            return torch.cat(list(pool.map(run, batch.chunk(lanes))))
    finally:
        torch.set_num_threads(threads)  # a part of torch keeps one number for all threads
