"""Successive halving: hopeless heads stop early, so that the others can go on."""

from collections.abc import Sequence
from math import ceil

from mlic.errors import InputError
from mlic.tuning.trials import Trial


def rungs(max_epochs: int, *, first: int, eta: float) -> list[int]:
    """Numbers of epochs after which trials stop: `first`, then `eta` times as many each time, below `max_epochs`.

    Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016.

    Raises:
        InputError: `first` below 1 or `eta` of 1 or less.
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
    """Keep the best of the trials, one in `eta`, at least one; mark the others as stopped.

    Args:
        trials: that are running.
        eta: see `rungs`.
        last: what counts of a trial; see `Trial.value`.

    Returns:
        Those kept, in the order of their numbers.
    """
    ranked = sorted(trials, key=lambda trial: (-trial.value(last=last), trial.number))
    number = ceil(len(ranked) / eta)
    for trial in ranked[number:]:
        trial.state = "stopped"
    return sorted(ranked[:number], key=lambda trial: trial.number)
