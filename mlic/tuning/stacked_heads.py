"""Dense heads of the same structure, trained together by batched matrix products."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlic.models import DenseHead, Standardization

Structure = tuple[tuple[int, ...], tuple[bool, ...], bool]


def structure_of(head: DenseHead) -> Structure:
    """Return the structure that stacked heads must share: widths, active dropouts, standardisation."""
    linears = _linears(head)
    widths = (linears[0].in_features, *(layer.out_features for layer in linears))
    dropouts = tuple(dropout is not None and dropout.p > 0 for dropout in _dropouts(head))
    return widths, dropouts, any(isinstance(layer, Standardization) for layer in head)


def _linears(head: DenseHead) -> list[nn.Linear]:
    return [layer for layer in head if isinstance(layer, nn.Linear)]


def _dropouts(head: DenseHead) -> list[nn.Dropout | None]:
    """Return the dropout before each `Linear`, or None."""
    found: list[nn.Dropout | None] = []
    waiting: nn.Dropout | None = None
    for layer in head:
        if isinstance(layer, nn.Dropout):
            waiting = layer
        elif isinstance(layer, nn.Linear):
            found.append(waiting)
            waiting = None
    return found


class StackedHeads:
    """The heads of T trials in K folds in train mode, each applied to the batch of its fold.

    The parameters of the heads become views of the stacked ones. An optimizer of the parameters of a head therefore
    trains its part of the stack, and in eval mode the head itself is used. Trials of one fold share the random numbers
    of dropout and compare them with their own probabilities, so that random differences between trials are smaller.
    """

    def __init__(self, heads: Sequence[Sequence[DenseHead]]) -> None:
        """Stack `heads[trial][fold]`, which have the same structure and device."""
        self.num_trials, self.num_folds = len(heads), len(heads[0])
        flat = [head for folds in heads for head in folds]
        self.device = next(flat[0].parameters()).device
        linears = list(zip(*map(_linears, flat), strict=True))
        self.layers = [
            (_stack([m.weight for m in layer]), _stack([m.bias for m in layer])) for layer in linears
        ]
        self._parameters = [parameter for layer in self.layers for parameter in layer]
        self._views = [[p for m in layer for p in (m.weight, m.bias)] for layer in zip(*linears, strict=True)]
        widths, self.has_dropout, standardizes = structure_of(flat[0])
        self.widths = widths[:-1]
        dropouts = list(zip(*([_dropouts(folds[0]) for folds in heads]), strict=True))
        self.shares = [self._column([d.p if d else 0.0 for d in own]) for own in dropouts]
        self.standardizations = [self._standardization(head) for head in heads[0]] if standardizes else []

    def _column(self, values: Sequence[float]) -> Tensor:
        """Return a tensor (T, 1, 1, 1)."""
        return torch.tensor(values, dtype=torch.float32, device=self.device).view(-1, 1, 1, 1)

    @staticmethod
    def _standardization(head: DenseHead) -> Standardization:
        return next(layer for layer in head if isinstance(layer, Standardization))

    def draw(self, num_rows: int, generator: torch.Generator) -> list[Tensor]:
        """Draw random numbers in [0, 1) for a batch of one fold: (num_rows, width) for each active dropout."""
        return [
            torch.rand((num_rows, width), generator=generator, device=self.device)
            for width, at_work in zip(self.widths, self.has_dropout, strict=True)
            if at_work
        ]

    def __call__(self, features: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """Compute logits in train mode.

        Args:
            features: features (K, B, *feature_shape), one batch per fold.
            draws: random numbers (K, B, width) of each dropout, from `draw`.

        Returns:
            Logits (T, K, B, C).
        """
        features = features.flatten(2)
        if self.standardizations:
            pairs = zip(self.standardizations, features, strict=True)
            features = torch.stack([standardize(own) for standardize, own in pairs])
        waiting = iter(draws)
        values = features.expand(self.num_trials, *features.shape)
        for place, ((weight, bias), at_work) in enumerate(zip(self.layers, self.has_dropout, strict=True)):
            if place:
                values = torch.relu(values)
            if at_work:
                share = self.shares[place]
                values = values * (next(waiting) >= share).to(values.dtype).div_(1 - share)
            # weights on the left, so that their gradients have the layout of the weights and are not copied
            product = torch.baddbmm(bias.unsqueeze(2), weight, values.flatten(0, 1).mT).mT
            values = product.unflatten(0, (self.num_trials, self.num_folds))
        return values

    def clear_gradients(self) -> None:
        """Clear gradients before a backward pass, to None, because adding to zeros takes a fifth of a step."""
        for parameter in self._parameters:
            parameter.grad = None

    def share_gradients(self) -> None:
        """Make the gradients of the heads views of the stacked ones after a backward pass."""
        for views, stacked in zip(zip(*self._views, strict=True), self._parameters, strict=True):
            assert stacked.grad is not None
            for view, gradient in zip(views, stacked.grad.unbind(), strict=True):
                view.grad = gradient


def _stack(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return a leaf tensor (heads, *shape) of which the parameters become views."""
    stacked = torch.stack([parameter.detach() for parameter in parameters])
    for parameter, view in zip(parameters, stacked, strict=True):
        parameter.data = view
        parameter.grad = None
    return stacked.requires_grad_()
