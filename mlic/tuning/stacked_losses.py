"""The losses of several trials of any kind and parameters, in one computation."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from mlic.models.losses import WeightedLoss

PARAMETERS = ("gamma", "present", "absent", "gamma_neg", "gamma_pos", "clip")


class StackedLosses:
    """The losses of T trials in K folds, each applied to its own logits."""

    def __init__(self, losses: Sequence[Sequence[WeightedLoss]], device: torch.device) -> None:
        """Stack `losses[trial][fold]`; the losses of a trial differ only in class weights."""
        self.weights = torch.stack([torch.stack([loss.class_weights for loss in own]) for own in losses])
        self.weights = self.weights.unsqueeze(2).to(device)  # (T, K, 1, C)
        first = [own[0] for own in losses]
        self.smoothing = _column([loss.label_smoothing for loss in first]).to(device)
        kinds: dict[tuple, list[int]] = {}
        for trial, loss in enumerate(first):
            pos_weight: Any = getattr(loss, "pos_weight", None)
            kinds.setdefault((type(loss), getattr(loss, "clips", False), pos_weight is None), []).append(
                trial
            )
        self.groups = [
            (torch.tensor(trials, device=device), _merge([first[trial] for trial in trials], device))
            for trials in kinds.values()
        ]

    def __call__(self, logits: Tensor, targets: Tensor, row_weights: Tensor) -> Tensor:
        """Compute the loss of each trial and fold.

        Args:
            logits: logits (T, K, B, C).
            targets: targets (K, B, C) in [0, 1].
            row_weights: weights (K, B) that sum to 1 in each fold; padding rows have 0.

        Returns:
            Losses (T, K).
        """
        smoothed = torch.lerp(targets, torch.full_like(targets, 0.5), self.smoothing)
        if len(self.groups) == 1:
            terms = self.groups[0][1].terms(logits, smoothed)
        else:
            terms = torch.empty_like(logits)
            for trials, loss in self.groups:
                terms = terms.index_copy(0, trials, loss.terms(logits[trials], smoothed[trials]))
        return ((self.weights * terms).mean(-1) * row_weights).sum(-1)


def _merge(losses: Sequence[WeightedLoss], device: torch.device) -> WeightedLoss:
    """Return one loss with the parameters of all as (n, 1, 1, 1); its `terms` take logits (n, K, B, C)."""
    merged: Any = deepcopy(losses[0]).to(device)
    for name in PARAMETERS:
        if hasattr(merged, name):
            setattr(merged, name, _column([getattr(loss, name) for loss in losses]).to(device))
    if getattr(merged, "pos_weight", None) is not None:
        weights = torch.stack([loss.pos_weight for loss in losses])  # pyright: ignore[reportArgumentType]
        merged._buffers = {**merged._buffers, "pos_weight": weights[:, None, None].to(device)}
    return merged


def _column(values: Sequence[float]) -> Tensor:
    """Return a tensor float32 (n, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)
