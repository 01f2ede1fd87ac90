"""Weighted mean of a ridge head in closed form and a dense head trained by gradients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models.heads import DenseHead
from mlic.models.ridge import ClosedFormFit, Gather, RidgeHead


class BlendHead(nn.Module):
    """`(1 - weight) * ridge + weight * dense`, of logits.

    The two heads make different errors: on 1,069 photographs their mean has a higher mAP than each of them
    (docs/heads.md). The logits of the dense head spread about twice as far as the calibrated ones of ridge, so that a
    weight below a half lets both count equally. In training mode the output is that of the dense head alone, which is
    therefore trained as if it were the only one.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_classes: int,
        *,
        weight: float = 0.3,
        power: float = 0.5,
        penalties: Sequence[float] | float | None = None,
        **dense: Any,
    ) -> None:
        """Build both heads.

        Args:
            feature_shape: shape of the features of one image.
            num_classes: width of the output.
            weight: weight of the dense head, in [0, 1].
            power: see `RidgeHead`.
            penalties: see `RidgeHead`.
            dense: keyword arguments of `DenseHead`.

        Raises:
            InputError: `weight` is outside [0, 1], or an error of one of the heads.
        """
        super().__init__()
        if not 0 <= weight <= 1:
            raise InputError(f"head.weight={weight}: expected a number in [0, 1].", key="head.weight")
        self.weight = weight
        # first, so that it draws the same initial weights as without the other
        self.dense = DenseHead(feature_shape, num_classes, **dense)
        self.ridge = RidgeHead(feature_shape, num_classes, power=power, penalties=penalties)

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits float32 (B, C) of features (B, *feature_shape)."""
        logits = self.dense(input)
        return logits if self.training else (1 - self.weight) * self.ridge(input) + self.weight * logits

    def fit_closed_form(
        self, gather: Gather, targets: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
    ) -> ClosedFormFit:
        """Fit the ridge head; the leave-one-out scores are those of this head alone."""
        return self.ridge.fit_closed_form(gather, targets, groups, seed=seed)
