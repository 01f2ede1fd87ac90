"""Compare runs: `python -m mlic.compare runs=outputs/sweeps output=outputs/compare` writes one report."""

import logging
import time
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings

logger = logging.getLogger(__name__)


@translated_errors()
def compare(config: DictConfig) -> Path:
    """Write a report from run folders, without torch, a GPU or training images.

    Args:
        config: composed from `conf/compare.yaml`, by Hydra's command line or
            `mlic.config.compose(config_name="compare")`.

    Returns:
        The path of index.html, next to tables/ and figures/.

    Raises:
        InputError: no runs were found, or an option is invalid.
    """
    check_settings(config, "compare")
    # pandas, scikit-learn and matplotlib take a second to import, which `--help` does not need
    from mlic.report.report import ReportOptions, write_report

    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    start = time.perf_counter()
    page = write_report(ReportOptions(**{**plain, "output": Path(plain["output"])}))
    logger.info("%s  (%.1f s)", page, time.perf_counter() - start)
    return page


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="compare")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    compare(config)


if __name__ == "__main__":
    run_command(main, ("runs", "output"))
