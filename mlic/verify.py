"""Check a data set before any training.

python -m mlic.verify data=csv data.annotations=... data.images=... output=<folder>
"""

import sys
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import check_choice
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
    from mlic.verification.report import log_findings, open_output, write

    if config.labels is not None:
        check_choice("labels", config.labels, ("suspect",))
    check_seed("seed", config.seed)
    if config.labels == "suspect":
        from mlic.verification.suspects import check_options

        check_options(config.suspects)
    folder = open_output(config.output, config.data.get("annotations"))
    with locked_folder(folder.path):
        verification = verify_data(config.data, check=config.check)
        if config.near_duplicates and verification.table.classes:
            # torch and timm take seconds to import
            from mlic.verification.near_duplicates import write_near_duplicates

            verification = verification.with_findings(write_near_duplicates(config, folder))
        panels = write(folder, verification, config.data, check=config.check, seed=config.seed)
        log_findings(folder, verification)
        suspects = None
        if config.labels == "suspect" and verification.table.classes:
            from mlic.verification.suspects import write_suspects

            suspects = write_suspects(config, folder)
        write_page(folder, verification, config.data, panels=panels, seed=config.seed, suspects=suspects)
    return verification


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="verify")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    if verify(config).findings:
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
