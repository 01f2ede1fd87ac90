"""As many of the processor's threads as a step of a head has work for."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlic.models import MultiLabelClassifier

# A step on two threads took 1.8 times as long as on one at 10 million products, as long at 65, 0.8 times at 200.
PRODUCTS_A_THREAD = 32_000_000


@contextmanager
def head_threads(
    model: MultiLabelClassifier, feature_shape: tuple[int, ...], batch_size: int, device: torch.device
) -> Iterator[None]:
    """Inside, torch computes on so many threads that none of them mostly waits for the others.

    On an accelerator, and where a backbone runs too, it stays at the number that was set, which is never exceeded.

    Args:
        model: with the head that is trained.
        feature_shape: of one image; a head on maps (C, H, W) computes at each place.
        batch_size: images a step.
        device: that the head is trained on.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu" and model.backbone is None:
        parameters = sum(parameter.numel() for parameter in model.head.parameters())
        products = parameters * math.prod(feature_shape[1:]) * batch_size
        torch.set_num_threads(max(1, min(threads, products // PRODUCTS_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
