"""Compute the features of a data set and nothing else: `python -m mlic.extract model=nasnetlarge data=...`."""

import sys

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from mlic.command_line import quote_paths
from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.settings import refuse_unknown


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="extract")
def main(config: DictConfig) -> None:
    """Hydra's entry point; the settings are those of `mlic.train`."""
    try:
        refuse_unknown(config, "extract")
        from mlic.training.run import extract

        extract(config)
    except InputError as error:
        raise CompactHydraException(f"\n{error}") from error


if __name__ == "__main__":
    sys.argv[1:] = quote_paths(sys.argv[1:])
    main()
