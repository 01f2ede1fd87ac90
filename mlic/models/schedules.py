"""Learning rates over the steps of a run."""

from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mlic.errors import InputError


def cosine_with_warmup(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0.05, final: float = 0.0
) -> LambdaLR:
    """Linear rise to the optimizer's rate, then half a cosine down (Loshchilov and Hutter, SGDR, 2017, one period).

    A resumed run goes on where it was, as long as it has as many steps in all.

    Args:
        optimizer: whose rates are scaled, each group's by the same factor.
        total_steps: of the whole run.
        warmup: share of the steps that rise, in [0, 1).
        final: share of the rate that is left at the end, in [0, 1].

    Raises:
        InputError: a share out of range, or a run without end.
    """
    if not 0 <= warmup < 1:
        raise InputError(f"scheduler.warmup: {warmup} is not in [0, 1).")
    if not 0 <= final <= 1:
        raise InputError(f"scheduler.final: {final} is not in [0, 1].")
    if not 0 < total_steps < float("inf"):
        raise InputError("scheduler=cosine needs to know the run's length: set trainer.max_epochs.")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / (total_steps - rising))
        return final + (1 - final) * (1 + cos(pi * progress)) / 2

    return LambdaLR(optimizer, factor)
