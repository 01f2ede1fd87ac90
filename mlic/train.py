"""Train and test a classifier: `python -m mlic.train model=nasnetlarge`; `-m` sweeps, `--help` lists the choices."""

import sys

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from mlic.command_line import quote_paths
from mlic.config import CONFIG_DIR
from mlic.errors import InputError


def train(config: DictConfig) -> dict[str, dict]:
    """Run the whole way from photographs to test metrics.

    Args:
        config: composed from `conf/train.yaml`, by Hydra's command line or `mlic.config.compose`.

    Returns:
        The metrics of `train`, `val` and `test`, as in metrics.json.

    Raises:
        InputError: data, weights or settings that cannot be used.
    """
    # torch and timm take seconds to import: not before the command line is known to be right
    from mlic.training.run import run

    return run(config)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="train")
def main(config: DictConfig) -> None:
    """Hydra's entry point; shows an InputError without a traceback, which status.json keeps."""
    try:
        train(config)
    except InputError as error:
        raise CompactHydraException(f"\n{error}") from error


if __name__ == "__main__":
    sys.argv[1:] = quote_paths(sys.argv[1:])
    main()
