"""Features brought to mean 0 and standard deviation 1, as they were on the training images."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

SMALLEST_DEVIATION = 1e-6  # of a feature that varies; others are left as they are


class Standardization(nn.Module):
    """`(x - mean) / deviation` for each feature, or each channel of a map; `fit_standardization` sets both.

    Unlike BatchNorm, nothing changes while training, and an image's features depend on no other image of its batch.
    Mean and deviation are buffers: they travel with the head's weights. Before they are set it changes nothing.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_features: int) -> None:
        """Prepare for features of that number."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("deviation", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """(B, F) or (B, F, h, w) -> the same shape."""
        shape = (-1, *[1] * (input.ndim - 2))
        return (input - self.mean.view(shape)) / self.deviation.view(shape)


class _Moments:
    """Sums up what a module is given; in float64, so that the difference of large sums stays exact."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        rows = arguments[0].detach().double().transpose(0, 1).flatten(1).cpu()
        self.count += rows.shape[1]
        self.total = self.total + rows.sum(1)
        self.squares = self.squares + rows.square().sum(1)

    def store(self, module: Standardization) -> None:
        mean = self.total / self.count
        deviation = (self.squares / self.count - mean.square()).clamp(min=0).sqrt()
        deviation[deviation < SMALLEST_DEVIATION] = 1.0
        module.mean.copy_(mean)
        module.deviation.copy_(deviation)


def fit_standardization(head: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the mean and deviation of each `Standardization` in a head; does nothing for a head without one.

    Args:
        head: features (B, *feature_shape) -> anything.
        batches: the features of all training images, and of no others.

    Raises:
        ValueError: no batch, or features that are infinite or no number.
    """
    found = {module: _Moments() for module in head.modules() if isinstance(module, Standardization)}
    if not found:
        return
    was_training = head.training
    head.eval()
    handles = [module.register_forward_pre_hook(moments) for module, moments in found.items()]
    try:
        with torch.no_grad():
            for features in batches:
                head(features)
    finally:
        for handle in handles:
            handle.remove()
        head.train(was_training)
    for module, moments in found.items():
        if not moments.count or not math.isfinite(float(moments.squares.sum())):
            raise ValueError("standardisation needs the features of the training images, all of them finite")
        moments.store(module)
