"""Losses over logits and targets, all weighted by class and reduced to the mean over batch and classes.

Being means of the same terms, they are of one size: learning rates carry over from one to another.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.errors import InputError

SMALLEST_ERROR = 1e-12


class WeightedLoss(nn.Module):
    """Mean over batch and classes of `w_c * term(logit, target)`; a subclass says what the terms are.

    `class_weights` is PyTorch's `weight`: it scales a class whether present or absent.
    """

    class_weights: Tensor

    def __init__(self, class_weights: Sequence[float] | np.ndarray, *, label_smoothing: float = 0.0) -> None:
        """Keep the weights as a buffer, so that they move with the module.

        Args:
            class_weights: (C,) weight of each class.
            label_smoothing: s in [0, 1]; a target y becomes `(1 - s) * y + s / 2` (Szegedy et al., Rethinking the
                Inception Architecture, 2016, for two outcomes).

        Raises:
            InputError: a smoothing outside [0, 1].
        """
        super().__init__()
        _check_range("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing
        weights = torch.as_tensor(np.asarray(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, C) and targets (B, C) in [0, 1], both floating point -> scalar."""
        if self.label_smoothing:
            targets = targets.lerp(torch.full_like(targets, 0.5), self.label_smoothing)
        return (self.class_weights * self.terms(logits, targets)).mean()

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, C) and smoothed targets (B, C) -> loss of each label (B, C)."""
        raise NotImplementedError


class WeightedBCE(WeightedLoss):
    """Mean over batch and classes of `w_c * BCE(logit, target)`.

    `pos_weight` scales only the term of the present labels, `class_weights` both; the two are often confused.
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
            pos_weight: a number for all classes, or (C,) of them; None for 1.
            label_smoothing: see `WeightedLoss`.
        """
        super().__init__(class_weights, label_smoothing=label_smoothing)
        positive = None
        if pos_weight is not None:
            positive = torch.as_tensor(pos_weight, dtype=torch.float32)
            positive = positive.expand(len(self.class_weights)).clone()
        self.register_buffer("pos_weight", positive, persistent=False)

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross entropy of each label."""
        return functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=self.pos_weight, reduction="none"
        )


class FocalLoss(WeightedLoss):
    """Mean of `w_c * (1 - p_t)^gamma * BCE`, where p_t is the score given to what is true.

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
            gamma: how much labels that are easy already count less.
            label_smoothing: see `WeightedLoss`.

        Raises:
            InputError: gamma below 0.
        """
        super().__init__(class_weights, label_smoothing=label_smoothing)
        _check_range("gamma", gamma, 0, float("inf"))
        self.gamma = gamma

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Those of a present label in proportion to the target, of an absent one to the rest."""
        present = _focus(torch.sigmoid(-logits), self.gamma) * functional.softplus(-logits)
        absent = _focus(torch.sigmoid(logits), self.gamma) * functional.softplus(logits)
        return torch.lerp(absent, present, targets)


class AsymmetricLoss(WeightedLoss):
    """Focal loss with exponents of its own for present and absent labels, and easy absent ones left out.

    Ridnik et al., Asymmetric Loss for Multi-Label Classification, 2021, equations 5 to 7: of an absent label the
    score is lowered by `clip`, to 0 at least. `gamma_neg = gamma_pos` without clip is `FocalLoss`. The paper sums over
    the classes; here it is the mean, as in all losses.
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
        """Keep the settings; the defaults are the paper's for MS-COCO.

        Args:
            class_weights: (C,) weight of each class.
            gamma_neg: exponent for absent labels.
            gamma_pos: exponent for present labels.
            clip: score up to which an absent label costs nothing, in [0, 1).
            label_smoothing: see `WeightedLoss`.

        Raises:
            InputError: an exponent below 0 or a clip outside [0, 1).
        """
        super().__init__(class_weights, label_smoothing=label_smoothing)
        _check_range("gamma_neg", gamma_neg, 0, float("inf"))
        _check_range("gamma_pos", gamma_pos, 0, float("inf"))
        _check_range("clip", clip, 0, 0.999)
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip
        self.clips = clip > 0

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Those of a present label in proportion to the target, of an absent one to the rest."""
        present = _focus(torch.sigmoid(-logits), self.gamma_pos) * functional.softplus(-logits)
        if self.clips:
            shifted = (torch.sigmoid(logits) - self.clip).clamp(min=0)
            absent = -_focus(shifted, self.gamma_neg) * torch.log1p(-shifted)
        else:  # exact for large logits too, where 1 - score is 0
            absent = _focus(torch.sigmoid(logits), self.gamma_neg) * functional.softplus(logits)
        return torch.lerp(absent, present, targets)


def _focus(error: Tensor, gamma: float) -> Tensor:
    """`error ** gamma`; at 0 the slope of a power below 1 would be infinite."""
    return error.clamp(min=SMALLEST_ERROR) ** gamma


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"loss.{name}: {value} is not between {low} and {high}.")
