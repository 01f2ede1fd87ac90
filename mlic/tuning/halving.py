"""Successive halving: heads with low scores are stopped early."""

from collections.abc import Sequence
from math import ceil

from mlic.errors import InputError
from mlic.tuning.trials import Trial


def rungs(max_epochs: int, *, first: int, eta: float) -> list[int]:
    """Return the epochs after which trials are stopped: `first`, then multiples by `eta`, below `max_epochs`.

    Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016.

    Raises:
        InputError: `first` is below 1, or `eta` is not above 1.
    """
    if first < 1 or eta <= 1:
        raise InputError(f"tune.halving: first={first} must be at least 1, eta={eta} above 1.")
    found: list[int] = []
    epochs = float(first)
    while round(epochs) < max_epochs:
        found.append(round(epochs))
        epochs *= eta
    return found


def stop_hopeless(trials: Sequence[Trial], eta: float, *, last: bool) -> list[Trial]:
    """Keep the best 1 / `eta` of the trials (at least one), and mark the others as stopped.

    Args:
        trials: running trials.
        eta: see `rungs`.
        last: see `Trial.value`.

    Returns:
        The trials kept, in the order of their numbers.
    """
    ranked = sorted(trials, key=lambda trial: (-trial.value(last=last), trial.number))
    number = ceil(len(ranked) / eta)
    for trial in ranked[number:]:
        trial.state = "stopped"
    return sorted(ranked[:number], key=lambda trial: trial.number)
