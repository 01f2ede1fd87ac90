"""Trials: settings drawn from the search space, each with the config of its run."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mlic.config import compose_group
from mlic.errors import InputError
from mlic.tuning.space import Dimension, draw_settings, parse_space

GROUPS = ("head", "loss", "optimizer")


@dataclass(eq=False)
class Trial:
    """The settings and scores of one trial.

    Attributes:
        number: number of the trial; 0 is the given config.
        settings: values of the keys in the search space.
        config: config of the run with these settings.
        scores: metric on val (epochs, K) of each fold after each epoch; NaN if the head diverged.
        train_losses: mean loss (epochs, K) of the training batches.
        state: `running`, `finished`, `stopped` (early) or `diverged`.
    """

    number: int
    settings: dict[str, Any]
    config: DictConfig
    scores: list[list[float]] = field(default_factory=list)
    train_losses: list[list[float]] = field(default_factory=list)
    state: str = "running"

    @property
    def curve(self) -> np.ndarray:
        """Return the mean score over folds (epochs,)."""
        return np.mean(self.scores, axis=1) if self.scores else np.empty(0)

    def best_epoch(self, *, last: bool) -> int:
        """Return the epoch of the score: the last one, or the first one with the highest mean."""
        return len(self.scores) - 1 if last else int(np.argmax(self.curve))

    def value(self, *, last: bool) -> float:
        """Return the metric at the best epoch; minus infinity if the head diverged."""
        if not self.scores or self.state == "diverged":
            return -np.inf
        return float(self.curve[self.best_epoch(last=last)])


def make_trials(
    config: DictConfig, choices: Mapping[str, str | None]
) -> tuple[list[Trial], tuple[Dimension, ...]]:
    """Create the trials: the given config, and settings drawn from the search space.

    Args:
        config: config with `tune.heads`, `tune.seed` and `tune.space`.
        choices: choices of the config by group.

    Returns:
        `tune.heads` trials, and the dimensions of the search space.

    Raises:
        InputError: the space is invalid, or contains settings other than those of head, loss and optimizer.
    """
    space: Any = OmegaConf.to_container(config.tune.space, resolve=True)
    others = [key for key in space if key not in GROUPS]
    if others:
        raise InputError(
            f"tune.space.{others[0]}: only {', '.join(GROUPS)} can be varied here. Vary other settings with "
            "hydra/sweeper=search."
        )
    if config.tune.heads < 2:
        raise InputError(
            f"tune.heads={config.tune.heads}: expected at least 2, the given config and one to compare it with."
        )
    dimensions = parse_space(space)
    drawn = draw_settings(dimensions, config.tune.heads - 1, config.tune.seed)
    first = Trial(0, _settings_of(config, choices, dimensions), with_settings(config, {}))
    others = [Trial(number, own, with_settings(config, own)) for number, own in enumerate(drawn, start=1)]
    return [first, *others], dimensions


def _settings_of(
    config: DictConfig, choices: Mapping[str, str | None], dimensions: Sequence[Dimension]
) -> dict[str, Any]:
    """Return the settings of the given config for all dimensions; for groups, the choice and its settings."""
    settings: dict[str, Any] = {}
    for dimension in dimensions:
        key = dimension.key
        value = OmegaConf.select(config, key) if "." in key else choices.get(key)
        if value is None:
            continue
        settings[dimension.key] = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
        settings |= _settings_of(config, choices, dimension.branches.get(str(value), ()))
    return settings


def with_settings(config: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """Return the config of a run with some settings; groups (`loss`) are set before values (`loss.gamma`)."""
    made = deepcopy(config)
    OmegaConf.set_struct(made, False)
    for key in sorted(settings, key=lambda key: key.count(".")):
        if "." in key:
            OmegaConf.update(made, key, settings[key], merge=False, force_add=True)
        else:
            made[key] = compose_group(key, settings[key])
    return made
