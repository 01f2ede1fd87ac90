"""The number of CPU threads for the training of small heads."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlic.models import MultiLabelClassifier

# A step on two threads took 1.8 times as long as on one with 10 million products, as long with 65, 0.8 times with 200.
PRODUCTS_A_THREAD = 32_000_000


@contextmanager
def head_threads(
    model: MultiLabelClassifier, feature_shape: tuple[int, ...], batch_size: int, device: torch.device
) -> Iterator[None]:
    """Context manager that limits the threads of torch to as many as the steps of a head can use.

    On an accelerator, or if a backbone runs too, the number is unchanged. It is never increased.

    Args:
        model: model with the head.
        feature_shape: shape of the features of one image; a head on maps (C, H, W) computes at each position.
        batch_size: images per step.
        device: device on which the head is trained.
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
