"""Trials: settings drawn from the search space, each with the config of the run that it stands for."""

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
    """One setting and how it did.

    Attributes:
        number: 0 is the config as it is.
        settings: key of the config -> value, of those that the trials differ in.
        config: of the run with these settings.
        scores: (epochs, K) the metric on val of each fold after each epoch; NaN where the head diverged.
        train_losses: (epochs, K) mean loss of the training batches.
        state: `running`, `finished`, `stopped` (hopeless) or `diverged`.
    """

    number: int
    settings: dict[str, Any]
    config: DictConfig
    scores: list[list[float]] = field(default_factory=list)
    train_losses: list[list[float]] = field(default_factory=list)
    state: str = "running"

    @property
    def curve(self) -> np.ndarray:
        """(epochs,) mean over the folds."""
        return np.mean(self.scores, axis=1) if self.scores else np.empty(0)

    def best_epoch(self, *, last: bool) -> int:
        """The epoch that counts: the last one, or that with the highest mean; the earliest of equals."""
        return len(self.scores) - 1 if last else int(np.argmax(self.curve))

    def value(self, *, last: bool) -> float:
        """The metric at that epoch, minus infinity for a head that diverged."""
        if not self.scores or self.state == "diverged":
            return -np.inf
        return float(self.curve[self.best_epoch(last=last)])


def make_trials(
    config: DictConfig, choices: Mapping[str, str | None]
) -> tuple[list[Trial], tuple[Dimension, ...]]:
    """The config as it is, and settings drawn around it.

    Args:
        config: with `tune.heads`, `tune.seed` and `tune.space`.
        choices: config group -> choice of the config.

    Returns:
        `tune.heads` trials, and the dimensions that they differ in.

    Raises:
        InputError: a space that is none, or over other things than head, loss and optimizer.
    """
    space: Any = OmegaConf.to_container(config.tune.space, resolve=True)
    others = [key for key in space if key not in GROUPS]
    if others:
        raise InputError(
            f"tune.space.{others[0]}: the heads of a bank differ in {', '.join(GROUPS)} only. Vary whatever else with "
            "hydra/sweeper=search."
        )
    if config.tune.heads < 2:
        raise InputError(
            f"tune.heads: {config.tune.heads} is below 2: the config as it is, and one to compare it with."
        )
    dimensions = parse_space(space)
    drawn = draw_settings(dimensions, config.tune.heads - 1, config.tune.seed)
    first = Trial(0, _settings_of(config, choices, dimensions), with_settings(config, {}))
    others = [Trial(number, own, with_settings(config, own)) for number, own in enumerate(drawn, start=1)]
    return [first, *others], dimensions


def _settings_of(
    config: DictConfig, choices: Mapping[str, str | None], dimensions: Sequence[Dimension]
) -> dict[str, Any]:
    """What the config has where others are drawn: of a group its choice, with the settings that go with it."""
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
    """The config of a run with these settings: keys of a group (`loss`) first, then values (`loss.gamma`)."""
    made = deepcopy(config)
    OmegaConf.set_struct(made, False)
    for key in sorted(settings, key=lambda key: key.count(".")):
        if "." in key:
            OmegaConf.update(made, key, settings[key], merge=False, force_add=True)
        else:
            made[key] = compose_group(key, settings[key])
    return made
