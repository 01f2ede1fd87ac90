"""Where the Hydra configs lie, and how to compose them from Python."""

from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mlic.sweeps.places import folder_name

# for conf/train.yaml
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def _find_config_dir() -> str:
    """`conf/` inside the installed package, else beside it in the source tree."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/train.yaml in {package} or beside it; the installation is broken")


CONFIG_DIR = _find_config_dir()


def compose(*overrides: str, output: str | Path, config_name: str = "train") -> DictConfig:
    """Equivalent to the command line, for notebooks and tests.

    Args:
        overrides: such as `"model=efficientnet_lite2"`, `"trainer.max_epochs=5"`.
        output: the run folder.
        config_name: the file in `conf/`, without ending.

    Returns:
        The composed config, for `mlic.train.train`.
    """
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return hydra_compose(config_name, overrides=[*overrides, f"output='{output}'"])
