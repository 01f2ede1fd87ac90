"""List, verify and prune feature stores.

python -m mlic.features action=prune days=30 dir=<folder>
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.settings import check_settings


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="features")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point; exits with status 1 if `action=verify` found damage."""
    check_settings(config, "features")
    # torch takes seconds to import, so check the command line first
    from mlic.features.maintenance import default_folder, manage_stores

    folder = Path(config.dir) if config.dir else default_folder()
    if not manage_stores(config.action, folder, days=config.days):
        raise SystemExit(1)


def command() -> None:
    """Run `python -m mlic.features`."""
    run_command(main, keys=["dir"])


if __name__ == "__main__":
    command()
