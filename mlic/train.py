"""Train and test a classifier: `python -m mlic.train model=nasnetlarge`; `-m` sweeps, `--help` lists the choices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, quote_paths, run_command
from mlic.config import CONFIG_DIR, compose
from mlic.errors import InputError
from mlic.runs.signals import ending_on_signals
from mlic.settings import check_settings
from mlic.sweeps.job import reported_job
from mlic.sweeps.summary import summarized


def train(config: DictConfig) -> dict[str, dict]:
    """Train and test a classifier, or one for each fold with `data.split.folds` and without `data.split.fold`.

    Args:
        config: composed from `conf/train.yaml`, by Hydra's command line or `mlic.config.compose`.

    Returns:
        The metrics of `train`, `val` and `test`, as in metrics.json; see also `mlic.training.folds.cross_validate`.

    Raises:
        InputError: data, weights or settings cannot be used.
    """
    check_settings(config, "train")
    # torch and timm take seconds to import, so check the command line first
    from mlic.training.folds import cross_validate, is_cross_validation
    from mlic.training.run import run

    return cross_validate(config) if is_cross_validation(config) else run(config)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="train")
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    with ending_in_order(), reported_job(config), ending_on_signals():
        train(config)


def command() -> None:
    """Run `python -m mlic.train`."""
    run_command(summarized(_compare)(main))


def _compare(sweep: Path, options: Mapping[str, Any]) -> Path | str:
    from mlic.compare import compare

    settings = [f"runs={sweep}", *(f"{key}={value}" for key, value in options.items())]
    try:
        return compare(
            compose(*quote_paths(settings, ["runs"]), output=sweep / "compare", config_name="compare")
        )
    except (InputError, CompactHydraException) as error:
        return f"none ({error})"


if __name__ == "__main__":
    command()
