"""Check a data set before any training.

python -m mlic.verify data=csv data.annotations=... data.images=... output=<folder>
"""

import sys
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import InputError, check_choice
from mlic.runs.lock import locked_folder
from mlic.runs.system_errors import translated_errors
from mlic.seeds import check_seed
from mlic.settings import check_settings

if TYPE_CHECKING:
    from mlic.verification.checking import Verification

PROBLEMS_FOUND, UNUSABLE = 1, 2


class ProblemsFound(SystemExit):
    """Exit status of a check that found problems, distinguished from Hydra's status 1 for invalid input."""


@translated_errors()
def verify(config: DictConfig) -> "Verification":
    """Check a data set, write the findings, and optionally rank its labels.

    Args:
        config: composed from `conf/verify.yaml`.

    Returns:
        The findings.

    Raises:
        InputError: data or settings cannot be used.
    """
    check_settings(config, "verify")
    # pandas and scikit-learn take a second to import, so check the command line first
    from mlic.verification.checking import verify_data
    from mlic.verification.page import write_page
    from mlic.verification.report import (
        NEAR_DUPLICATES,
        SUSPECT_IMAGES,
        SUSPECTS,
        log_findings,
        open_output,
        write,
    )

    if config.labels is not None:
        check_choice("labels", config.labels, ("suspect",))
    options = config.suspects
    if not (options.penalty > 0 and options.rows >= 1 and options.folds >= 2):
        raise InputError("suspects: expected a penalty above 0, at least 1 row and at least 2 folds.")
    check_seed("seed", config.seed)
    folder, tables = open_output(config.output), {}
    with locked_folder(folder.path):
        verification = verify_data(config.data, check=config.check)
        if config.near_duplicates or config.labels:
            # torch and timm take seconds to import
            from mlic.verification.near_duplicates import find_divided, near_duplicate_pairs, read_features
            from mlic.verification.suspects import find_suspects

            datamodule = read_features(config)
            if config.near_duplicates:
                tables[NEAR_DUPLICATES] = pairs = near_duplicate_pairs(datamodule)
                verification.findings += find_divided(pairs)
            if config.labels:
                tables[SUSPECTS], tables[SUSPECT_IMAGES] = find_suspects(datamodule, options, config.seed)
        panels = write(folder, verification, tables, config.data, check=config.check, seed=config.seed)
        log_findings(folder, verification)
        suspects = tables.get(SUSPECT_IMAGES)
        write_page(folder, verification, config.data, panels=panels, seed=config.seed, suspects=suspects)
    return verification


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="verify")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    if len(verify(config).problems()):
        raise ProblemsFound(PROBLEMS_FOUND)


def command() -> None:
    """Run `python -m mlic.verify`; exits with status 1 if problems were found, 2 if the input cannot be used."""
    try:
        run_command(main)
    except ProblemsFound:
        raise
    except SystemExit as ending:  # Hydra exits with status 1 for invalid input and for --help
        sys.exit(UNUSABLE if ending.code == 1 else ending.code)


if __name__ == "__main__":
    command()
