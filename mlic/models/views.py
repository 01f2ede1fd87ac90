"""Scores from a photograph and its mirror image."""

from collections.abc import Callable

import torch
from torch import Tensor

from mlic.errors import InputError

VIEWS = (1, 2)


def average_over_views(
    network: Callable[[Tensor], Tensor],
    inputs: Tensor,
    views: int,
    *,
    mirror: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Mean of the logits of all views.

    Args:
        network: features or images -> logits (B, C).
        inputs: images as the backbone takes them, or features: (B, *feature_shape) of one view, (B, views,
            *feature_shape) of two.
        views: 1, or 2 with the mirror image.
        mirror: images -> mirror images, such as `FrozenBackbone.mirror`; None when `inputs` are features.

    Returns:
        Logits (B, C).
    """
    if views == 1:
        return network(inputs)
    if mirror is not None:
        return torch.stack([network(inputs), network(mirror(inputs))]).mean(0)
    return network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2]).mean(1)


def check_views(views: int) -> int:
    """The number of views, if there are so many.

    Raises:
        InputError: another number.
    """
    if views not in VIEWS:
        raise InputError(f"features.views: {views} is neither 1 nor 2 (with the mirror image).")
    return views
