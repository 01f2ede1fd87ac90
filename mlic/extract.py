"""Compute and store the features of a data set: `python -m mlic.extract model=nasnetlarge data=...`."""

import logging

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import check_choice
from mlic.settings import check_settings

logger = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="extract")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point; the settings are those of `mlic.train`, and `check`."""
    check_settings(config, "extract")
    from mlic.training.int8_check import check_int8
    from mlic.training.run import extract

    if config.check is not None:
        check_choice("check", config.check, ("int8",))
    try:
        if config.check == "int8":
            logger.info("%s", check_int8(config))
        else:
            extract(config)
    except SystemExit:  # a signal
        logger.warning(
            "interrupted; the features computed so far are kept, and the same command continues from there"
        )
        raise


if __name__ == "__main__":
    run_command(main)
