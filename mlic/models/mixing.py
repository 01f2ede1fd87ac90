"""Mixup: training on mixtures of two images' features."""

import torch
from torch import Tensor
from torch.distributions import Beta


def mix(features: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each image with another of the batch, features and targets in the same proportion.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, on features (manifold mixup at one layer, Verma et
    al. 2019). One share for the batch, from Beta(alpha, alpha); it is taken as at least a half, which only renames the
    two images, so that each row stays mostly its own image.

    Args:
        features: floating point (B, ...).
        targets: (B, C).
        alpha: above 0; small values mix little.

    Returns:
        Mixed features and targets, drawn from torch's global generator.
    """
    share = Beta(alpha, alpha).sample().item()
    other = torch.randperm(len(features), device=features.device)
    weight = min(share, 1 - share)
    return features.lerp(features[other], weight), targets.lerp(targets[other], weight)
