"""Banks of heads that train at the same time on the same batches, each with its own settings."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mlic.models import DenseHead
from mlic.models.classifier import Batch, epoch_seed
from mlic.models.losses import WeightedLoss
from mlic.tuning.stacked_heads import StackedHeads
from mlic.tuning.stacked_losses import StackedLosses


@dataclass
class Member:
    """One trial in a bank: a head, loss, optimizer and schedule for each of K folds.

    Attributes:
        heads: heads with initial weights and fitted standardisation.
        losses: losses with the class weights of their fold.
        optimizers: optimizers of the parameters of the heads.
        schedulers: schedulers of the optimizers; empty for constant learning rates.
        averages: averages of the weights, one list of tensors per fold; empty before averaging begins.
        averaged_steps: number of steps in the averages, per fold.
        losses_seen: mean training loss of the last epoch, per fold.
    """

    heads: list[DenseHead]
    losses: list[WeightedLoss]
    optimizers: list[Optimizer]
    schedulers: list[LRScheduler]
    averages: list[list[Tensor]] = field(default_factory=list)
    averaged_steps: list[int] = field(default_factory=list)
    losses_seen: list[float] = field(default_factory=list)

    @classmethod
    def build(
        cls,
        heads: Sequence[DenseHead],
        losses: Sequence[WeightedLoss],
        make_optimizer: Callable[..., Optimizer],
        make_scheduler: Callable[..., LRScheduler] | None = None,
        total_steps: Sequence[int] = (),
    ) -> "Member":
        """Create optimizers and schedules; schedules use `total_steps`, the steps of a whole run per fold."""
        optimizers = [make_optimizer(head.parameters()) for head in heads]
        schedulers = []
        if make_scheduler is not None:
            pairs = zip(optimizers, total_steps, strict=True)
            schedulers = [make_scheduler(optimizer, total_steps=steps) for optimizer, steps in pairs]
        return cls(list(heads), list(losses), optimizers, schedulers)


class Bank:
    """Trains the heads of all members, like each head alone on the same batches, but with different dropout masks.

    A single head draws masks from the global generator of torch. Heads in a bank share the random numbers of their
    fold.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        seed: int,
    ) -> None:
        """Stack members whose heads have the same structure.

        Args:
            members: T trials with K folds each.
            seed: seed of dropout, as in `MultiLabelClassifier`.
        """
        self.members, self.seed = list(members), seed
        self.heads = StackedHeads([member.heads for member in members])
        self.losses = StackedLosses([member.losses for member in members], self.heads.device)
        for member in members:
            for head in member.heads:
                head.train()

    def train_epoch(
        self,
        epoch: int,
        batches: Sequence[Iterable[Batch]],
        *,
        average: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        """Train one epoch on the training rows of each fold.

        Args:
            epoch: number of the epoch, from 0.
            batches: batches of each fold: features (B, *feature_shape), targets (B, C), rows.
            average: add the weights after each step to the averages of the members.
            stop: event that aborts the epoch.
        """
        seen: list[list[Tensor]] = [[] for _ in batches]
        # one per fold, so that the masks of a fold do not depend on the others
        generators = [torch.Generator(self.heads.device) for _ in batches]
        for generator in generators:
            generator.manual_seed(epoch_seed(self.seed, epoch))
        for parts in zip_longest(*batches):
            if stop is not None and stop.is_set():
                return
            present = [fold for fold, part in enumerate(parts) if part is not None]
            losses = self._backward([part for part in parts if part is not None], present, generators)
            for fold in present:
                seen[fold].append(losses[:, fold])
                for member in self.members:
                    self._step(member, fold)
                    if average:
                        _take_into_average(member, fold)
        means = torch.stack([torch.stack(own).mean(0) for own in seen], dim=1)  # (T, K)
        for member, own in zip(self.members, means.tolist(), strict=True):
            member.losses_seen = own

    def _backward(
        self, parts: Sequence[Batch], present: Sequence[int], generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Compute the gradients of all heads; return the losses (T, K), 0 for folds without further batches."""
        features, targets, draws = self._assemble(parts, present, generators)
        row_weights = features.new_zeros(targets.shape[:2])
        for fold, part in zip(present, parts, strict=True):
            row_weights[fold, : len(part[0])] = 1 / len(part[0])
        self.heads.clear_gradients()
        losses = self.losses(self.heads(features, draws), targets, row_weights)
        losses.sum().backward()
        self.heads.share_gradients()
        return losses.detach()

    def _assemble(
        self, parts: Sequence[Batch], present: Sequence[int], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return features, targets and random numbers of all folds, padded with zeros to the longest batch."""
        prepared = []
        for fold, (features, targets, _) in zip(present, parts, strict=True):
            features, targets = features.to(self.heads.device), targets.to(self.heads.device)
            prepared.append([features, targets, *self.heads.draw(len(features), generators[fold])])
        features, targets, *draws = (
            _fill_up(tensors, present, self.heads.num_folds) for tensors in zip(*prepared, strict=True)
        )
        return features, targets, draws

    @staticmethod
    def _step(member: Member, fold: int) -> None:
        member.optimizers[fold].step()
        if member.schedulers:
            member.schedulers[fold].step()


def _fill_up(tensors: Sequence[Tensor], present: Sequence[int], num_folds: int) -> Tensor:
    """Pad (b, ...) of each present fold to (K, B, ...)."""
    if num_folds == 1:
        return tensors[0].unsqueeze(0)
    longest = max(map(len, tensors))
    filled = tensors[0].new_zeros((num_folds, longest, *tensors[0].shape[1:]))
    for fold, tensor in zip(present, tensors, strict=True):
        filled[fold, : len(tensor)] = tensor
    return filled


def _take_into_average(member: Member, fold: int) -> None:
    """Update the mean over steps, as in `mlic.training.WeightAverage`."""
    if not member.averages:
        member.averages = [[] for _ in member.heads]
        member.averaged_steps = [0] * len(member.heads)
    member.averaged_steps[fold] += 1
    current = [parameter.detach() for parameter in member.heads[fold].parameters()]
    if not member.averages[fold]:
        member.averages[fold] = [weight.clone() for weight in current]
        return
    for mean, weight in zip(member.averages[fold], current, strict=True):
        mean.lerp_(weight, 1 / member.averaged_steps[fold])


@contextmanager
def ready_to_score(member: Member, fold: int) -> Iterator[DenseHead]:
    """Yield a head of a member in eval mode, with its averaged weights if there are any."""
    head = member.heads[fold].eval()
    average = member.averages[fold] if member.averages else []
    pairs = list(zip((parameter.data for parameter in head.parameters()), average, strict=False))
    running = [weight.clone() for weight, _ in pairs]
    for weight, mean in pairs:
        weight.copy_(mean)
    try:
        yield head
    finally:
        for (weight, _), kept in zip(pairs, running, strict=True):
            weight.copy_(kept)
        head.train()
