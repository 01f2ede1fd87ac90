"""Losses over logits and 0/1 targets, all reduced to the mean over batch and classes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class WeightedBCE(nn.Module):
    """Mean over batch and classes of `w_c * BCE(logit, target)`.

    `class_weights` is PyTorch's `weight`: it scales a class whether present or absent. `pos_weight` scales only the
    term of the present labels; the two are often confused.
    """

    class_weights: Tensor
    pos_weight: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | np.ndarray,
        *,
        pos_weight: float | Sequence[float] | None = None,
    ) -> None:
        """Keep the weights as buffers, so that they move with the module.

        Args:
            class_weights: (C,) weight of each class.
            pos_weight: a number for all classes, or (C,) of them; None for 1.
        """
        super().__init__()
        weights = torch.as_tensor(np.asarray(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        positive = None
        if pos_weight is not None:
            positive = torch.as_tensor(pos_weight, dtype=torch.float32).expand(len(weights)).clone()
        self.register_buffer("pos_weight", positive, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, C) and targets (B, C), both floating point -> scalar."""
        return functional.binary_cross_entropy_with_logits(
            logits, targets, weight=self.class_weights, pos_weight=self.pos_weight
        )
