"""Losses of logits and targets, weighted by class and averaged over batch and classes.

All losses are means over the same labels and have a similar scale, so that learning rates are transferable. Unknown
labels, targets of -1, are left out.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.data.table import UNKNOWN
from mlic.errors import InputError

SMALLEST_ERROR = 1e-12


class WeightedLoss(nn.Module):
    """Mean over the known labels of a batch of `w_c * term(logit, target)`; subclasses define the terms.

    `class_weights` corresponds to PyTorch's `weight`: it scales the terms of present and absent labels of a class.
    Unknown labels are left out here, so that the terms of a subclass never get one, and their logits have a gradient of
    exactly 0.
    """

    class_weights: Tensor

    def __init__(self, class_weights: Sequence[float] | np.ndarray, *, label_smoothing: float = 0.0) -> None:
        """Store the weights as a buffer, so that they move with the module.

        Args:
            class_weights: weight of each class (C,).
            label_smoothing: s in [0, 1]; a target y becomes `(1 - s) * y + s / 2` (Szegedy et al., Rethinking the
                Inception Architecture, 2016, for two outcomes).

        Raises:
            InputError: `label_smoothing` is outside [0, 1].
        """
        super().__init__()
        _check_range("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing
        weights = torch.as_tensor(np.asarray(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss of logits and targets, both floating point (B, C).

        Targets are in [0, 1], or -1 where the label is unknown. The loss is 0 if no label of the batch is known.
        """
        known = targets >= 0
        targets = targets.clamp(min=0)
        if self.label_smoothing:
            targets = targets.lerp(torch.full_like(targets, 0.5), self.label_smoothing)
        terms = torch.where(known, self.class_weights * self.terms(logits, targets), 0)
        # a mean over all labels times a factor that is exactly 1 if all are known. Nothing here depends on a value on
        # the GPU, which would have to be waited for in each step
        return terms.mean() * (known.numel() / known.sum().clamp(min=1))

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each label (B, C) from logits (B, C) and smoothed targets (B, C)."""
        raise NotImplementedError


class WeightedBCE(WeightedLoss):
    """Mean over batch and classes of `w_c * BCE(logit, target)`.

    `pos_weight` scales only the terms of present labels, `class_weights` all terms.
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | np.ndarray,
        *,
        pos_weight: float | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        """Keep the weights.

        Args:
            class_weights: (C,) weight of each class.
            pos_weight: a number for all classes, or one per class (C,); None for 1.
            label_smoothing: see `WeightedLoss`.
        """
        super().__init__(class_weights, label_smoothing=label_smoothing)
        positive = None
        if pos_weight is not None:
            positive = torch.as_tensor(pos_weight, dtype=torch.float32)
            positive = positive.expand(len(self.class_weights)).clone()
        self.register_buffer("pos_weight", positive, persistent=False)

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the binary cross-entropy of each label."""
        return functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=self.pos_weight, reduction="none"
        )


class AsymmetricLoss(WeightedLoss):
    """Focal loss with separate exponents for present and absent labels, which ignores easy absent labels.

    Ridnik et al., Asymmetric Loss for Multi-Label Classification, 2021, equations 5 to 7: the score of an absent
    label is lowered by `clip`, but not below 0. `gamma_neg = gamma_pos` without clip is `FocalLoss`. The paper uses
    the sum over classes; here it is the mean, as in all losses.
    """

    def __init__(
        self,
        class_weights: Sequence[float] | np.ndarray,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        label_smoothing: float = 0.0,
    ) -> None:
        """Store the settings; the defaults are those of the paper for MS-COCO.

        Args:
            class_weights: (C,) weight of each class.
            gamma_neg: exponent for absent labels.
            gamma_pos: exponent for present labels.
            clip: score up to which an absent label has no loss, in [0, 1).
            label_smoothing: see `WeightedLoss`.

        Raises:
            InputError: an exponent is below 0, or `clip` is outside [0, 1).
        """
        super().__init__(class_weights, label_smoothing=label_smoothing)
        _check_range("gamma_neg", gamma_neg, 0, float("inf"))
        _check_range("gamma_pos", gamma_pos, 0, float("inf"))
        _check_range("clip", clip, 0, 0.999)
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Interpolate between the losses of an absent and a present label by the target."""
        present = _focus(torch.sigmoid(-logits), self.gamma_pos) * functional.softplus(-logits)
        if self.clip:
            shifted = (torch.sigmoid(logits) - self.clip).clamp(min=0)
            absent = -_focus(shifted, self.gamma_neg) * torch.log1p(-shifted)
        else:  # exact also for large logits, where 1 - score rounds to 0
            absent = _focus(torch.sigmoid(logits), self.gamma_neg) * functional.softplus(logits)
        return torch.lerp(absent, present, targets)


class FocalLoss(AsymmetricLoss):
    """Mean of `w_c * (1 - p_t)^gamma * BCE`, where p_t is the score of the true outcome.

    Lin et al., Focal Loss for Dense Object Detection, 2017, equations 4 and 5; `gamma=0` is `WeightedBCE`.
    """

    def __init__(
        self,
        class_weights: Sequence[float] | np.ndarray,
        *,
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
    ) -> None:
        """Keep the settings.

        Args:
            class_weights: (C,) weight of each class.
            gamma: exponent that reduces the weight of easy labels.
            label_smoothing: see `WeightedLoss`.

        Raises:
            InputError: `gamma` is below 0.
        """
        _check_range("gamma", gamma, 0, float("inf"))
        super().__init__(
            class_weights, gamma_neg=gamma, gamma_pos=gamma, clip=0, label_smoothing=label_smoothing
        )


def check_loss(loss: nn.Module, labels: np.ndarray) -> None:
    """Check that a loss leaves out unknown labels if there are any.

    Args:
        loss: loss of logits and targets.
        labels: labels (N, C) of 1, 0 and -1 (unknown).

    Raises:
        InputError: labels are unknown, and the loss is not a `WeightedLoss`.
    """
    if not isinstance(loss, WeightedLoss) and (labels == UNKNOWN).any():
        raise InputError(
            f"loss: some labels are unknown (targets of {UNKNOWN}), and {type(loss).__name__} does not leave them out. "
            "Make it a subclass of mlic.models.losses.WeightedLoss that defines `terms`, or choose another loss."
        )


def _focus(error: Tensor, gamma: float) -> Tensor:
    """Return `error ** gamma`, with finite gradients at 0 for exponents below 1."""
    return error.clamp(min=SMALLEST_ERROR) ** gamma


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"loss.{name}={value}: expected a number between {low} and {high}.")
