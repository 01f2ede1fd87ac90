"""The configs of trials: the given config with settings drawn from the search space."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.samplers import RandomSampler
from optuna.trial import BaseTrial

from mlic.config import compose_again
from mlic.errors import InputError
from mlic.settings import check_options, check_settings
from mlic.tuning.space import Space

GIVEN = "given"  # attribute of trials of the given config
# what can vary while the features and parts stay the same
HEAD_SECTIONS = ("head", "loss", "optimizer", "scheduler")
CHECKED_TRIALS = 16


class TrialConfigs:
    """Draws the settings of trials, and composes their configs."""

    def __init__(
        self, config: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str]
    ) -> None:
        """Read the search space, `tune.space`.

        Args:
            config: config composed from `conf/tune.yaml`, which is that of the first trial.
            choices: choices by config group.
            overrides: overrides of the command line, to compose the config with other choices.

        Raises:
            InputError: the space is invalid, or `tune.over=heads` and it contains settings that heads cannot share.
        """
        self.config, self.choices = config, choices
        space: Any = OmegaConf.to_container(config.tune.space, resolve=True)
        others = [key for key in space if key not in HEAD_SECTIONS]
        if config.tune.over == "heads" and others:
            key = f"tune.space.{others[0]}"
            raise InputError(
                f"{key}: with tune.over=heads, only {', '.join(HEAD_SECTIONS)} can vary, because all trials share the "
                "features and parts. Set tune.over=runs.",
                key=key,
            )
        self.space = Space(space)
        self._composed: dict[str, DictConfig] = {}  # Hydra takes 0.1 s for each choice of groups
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        self._overrides = [(override.key_or_group, str(override.input_line)) for override in parsed]

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Return the settings that a trial suggests; those of the given config for its own trial."""
        return self.space.suggest(trial, self._given if GIVEN in trial.user_attrs else None)

    def first_parameters(self) -> list[dict[str, Any]]:
        """Return the parameters of the given config and of `tune.start`, as far as the space contains them."""
        starts: Any = OmegaConf.to_container(self.config.tune.start)
        return [self.space.parameters(value_of) for value_of in (self._given, *(own.get for own in starts))]

    def _given(self, key: str) -> Any:
        value = self.choices[key] if key in self.choices else OmegaConf.select(self.config, key)
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value

    def compose(self, settings: Mapping[str, Any]) -> DictConfig:
        """Return the config with some settings; groups (`loss`) are chosen before values (`loss.gamma`) are set."""
        groups = {key: value for key, value in settings.items() if key in self.choices}
        if groups and str(groups) not in self._composed:
            self._composed[str(groups)] = self._choose(groups)
        config = deepcopy(self._composed[str(groups)] if groups else self.config)
        OmegaConf.set_struct(config, False)
        for key, value in settings.items():
            if key not in groups:
                OmegaConf.update(config, key, value, merge=False, force_add=True)
        return config

    def _choose(self, groups: Mapping[str, Any]) -> DictConfig:
        # options of the given loss may not exist for another one, nor may parts of the space for another head
        replaced = ("tune.space.", *(f"{group}." for group in groups if group in HEAD_SECTIONS))
        kept = [line for key, line in self._overrides if key not in groups and not key.startswith(replaced)]
        chosen = [f"{group}={'null' if choice is None else choice}" for group, choice in groups.items()]
        config = compose_again(*kept, *chosen, config_name="tune")
        config.output = self.config.output
        return config

    def check(self) -> None:
        """Check the settings of some random trials.

        Raises:
            InputError: settings do not exist, or their values are of wrong types; the message names them.
        """
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        for _ in range(CHECKED_TRIALS):
            trial = study.ask()
            try:
                config = self.compose(self.suggest(trial))
                check_settings(config, "tune")
                check_options(config)
            except (ValueError, HydraException, OmegaConfBaseException) as error:
                raise InputError(f"tune.space: the settings {trial.params} do not fit: {error}") from error
