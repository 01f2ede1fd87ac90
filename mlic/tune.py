"""Tune a head: `python -m mlic.tune model=efficientnet_lite2 tune.heads=64`; `--help` lists the choices."""

from collections.abc import Mapping
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR, compose_with_choices
from mlic.settings import check_settings


def tune(*overrides: str, output: str | Path) -> dict[str, dict]:
    """Equivalent to the command line, for notebooks and tests.

    Args:
        overrides: such as `"model=efficientnet_lite2"`, `"tune.heads=64"`.
        output: folder for the trials; the winner's run lies in `winner/` there.

    Returns:
        The winner's metrics of `train`, `val` and `test`, as in metrics.json.

    Raises:
        InputError: data, weights, settings or a search space that cannot be used.
    """
    return _tune(*compose_with_choices(*overrides, output=output, config_name="tune"))


def _tune(config: DictConfig, choices: Mapping[str, str | None]) -> dict[str, dict]:
    check_settings(config, "tune")
    # torch and timm take seconds to import: not before the command line is known to be right
    from mlic.tuning.run import run_tuning

    return run_tuning(config, choices)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="tune")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra's entry point."""
    _tune(config, HydraConfig.get().runtime.choices)


if __name__ == "__main__":
    run_command(main)
