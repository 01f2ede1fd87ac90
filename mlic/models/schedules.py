"""Learning rate schedules."""

from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mlic.errors import InputError


def cosine_with_warmup(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0.05, final: float = 0.0
) -> LambdaLR:
    """Linear warm-up to the rate of the optimizer, then cosine decay (Loshchilov and Hutter, SGDR, 2017, one period).

    A resumed run continues the schedule if its total number of steps is the same.

    Args:
        optimizer: optimizer whose rates are scaled, all groups by the same factor.
        total_steps: number of steps of the whole run.
        warmup: share of the steps with warm-up, in [0, 1).
        final: final share of the rate, in [0, 1].

    Raises:
        InputError: a share is out of range, or the length of the run is unknown.
    """
    if not 0 <= warmup < 1:
        raise InputError(f"scheduler.warmup={warmup}: expected a number in [0, 1).")
    if not 0 <= final <= 1:
        raise InputError(f"scheduler.final={final}: expected a number in [0, 1].")
    if not 0 < total_steps < float("inf"):
        raise InputError("scheduler=cosine requires the length of the run: set trainer.max_epochs.")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / (total_steps - rising))
        return final + (1 - final) * (1 + cos(pi * progress)) / 2

    return LambdaLR(optimizer, factor)
