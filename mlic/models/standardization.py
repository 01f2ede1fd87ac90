"""Standardisation of features to mean 0 and standard deviation 1 over the training images."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

SMALLEST_DEVIATION = 1e-6  # features with a smaller deviation are constant and not scaled


class Standardization(nn.Module):
    """`(x - mean) / deviation` for each feature, or each channel of a map; `fit_standardization` sets both.

    Unlike BatchNorm, it does not change during training, and the result of an image does not depend on other images in
    the batch. Mean and deviation are buffers, stored with the weights of the head; before `fit_standardization`, it
    is the identity.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_features: int) -> None:
        """Create buffers for a number of features."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("deviation", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Standardise features (B, F) or (B, F, h, w)."""
        shape = (-1, *[1] * (input.ndim - 2))
        return (input - self.mean.view(shape)) / self.deviation.view(shape)


class _Moments:
    """Sums over the input of a module, in float64 because differences of large sums need precision."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        rows = arguments[0].detach().double().transpose(0, 1).flatten(1).cpu()
        self.count += rows.shape[1]
        self.total, self.squares = self.total + rows.sum(1), self.squares + rows.square().sum(1)


@torch.no_grad()
def fit_standardization(head: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the mean and deviation of each `Standardization` in a head, if it has any.

    Args:
        head: module that takes features (B, *feature_shape).
        batches: features of all training images.

    Raises:
        ValueError: there are no batches, or features are not finite.
    """
    found = {module: _Moments() for module in head.modules() if isinstance(module, Standardization)}
    if not found:
        return
    was_training = head.training
    head.eval()
    handles = [module.register_forward_pre_hook(moments) for module, moments in found.items()]
    try:
        for features in batches:
            head(features)
    finally:
        for handle in handles:
            handle.remove()
        head.train(was_training)
    for module, moments in found.items():
        if not moments.count or not math.isfinite(float(moments.squares.sum())):
            raise ValueError("standardisation requires finite features of the training images")
        mean = moments.total / moments.count
        deviation = (moments.squares / moments.count - mean.square()).clamp(min=0).sqrt()
        deviation[deviation < SMALLEST_DEVIATION] = 1.0
        module.mean.copy_(mean)
        module.deviation.copy_(deviation)
