"""Tune a head: `python -m mlic.tune model=efficientnet_lite2 tune.trials=64`; `--help` lists the choices."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR, compose_with_choices
from mlic.settings import check_settings


def tune(*overrides: str, output: str | Path) -> dict[str, dict]:
    """Run a search like the command line, for notebooks and tests.

    Args:
        overrides: overrides such as `"model=efficientnet_lite2"`, `"tune.trials=64"`.
        output: folder of the search; the run of the best trial is in `winner/`.

    Returns:
        The metrics of the best trial on `train`, `val` and `test`, as in metrics.json.

    Raises:
        InputError: data, weights, settings or the search space cannot be used.
    """
    composed = compose_with_choices(*overrides, output=output, config_name="tune")
    return _tune(*composed, overrides)


def _tune(config: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str]) -> dict[str, dict]:
    check_settings(config, "tune")
    # torch and timm take seconds to import, so check the command line first
    from mlic.tuning.run import run_tuning

    return run_tuning(config, choices, overrides)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="tune")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    hydra = HydraConfig.get()
    _tune(config, hydra.runtime.choices, [*hydra.overrides.hydra, *hydra.overrides.task])


if __name__ == "__main__":
    run_command(main)
