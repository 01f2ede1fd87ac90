"""The metric that a run returns to a sweeper."""

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mlic.errors import InputError


def objective_of(config: DictConfig, results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the metric named by `objective`, such as `val/map`.

    Args:
        config: config of the run, inside Hydra's main.
        results: content of metrics.json.

    Returns:
        The metric; None if the run does not have it and no sweeper needs it.

    Raises:
        InputError: a sweeper needs a metric that the run does not have.
    """
    part, _, metric = config.objective.partition("/")
    value = results.get(part, {}).get(metric)
    if isinstance(value, float):
        return value
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN or hydra.sweeper._target_.endswith(".BasicSweeper"):
        return None
    raise InputError(
        f"objective: the run has no '{config.objective}' (parts: {', '.join(results)}). The sweeper requires "
        "it: set data.split.val above 0, or objective=<part>/<metric>."
    )
