"""Location of the Hydra configs, and composition of configs from Python."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

NAME_BYTES = 120  # file systems allow 255
DIGEST_DIGITS = 8
# settings that change no result, or where things lie; labels and weights are checked by their digests. The number of
# processes is not one of them: data.batch_size is that of one process. features.shard_* are those of earlier versions
WITHOUT_EFFECT = (
    "output", "resume", "sweep", "on_error", "compare", "compare_options", "objective", "packages", "logger",
    "data.annotations", "data.images", "data.num_workers", "features.dir", "features.batch_size",
    "features.num_workers", "features.shard_mb", "features.shard_seconds", "callbacks.progress",
    "trainer.accelerator", "trainer.strategy", "trainer.plugins", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip
PARENTS = re.compile(r"(?<=[='\"\[])[^=,'\"\[\]]*/(?=[^/,'\"\]])")  # a path without its last part


def _find_config_dir() -> str:
    """Return `conf/` inside the installed package, or next to it in the source tree."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/train.yaml in {package} or beside it; the installation is broken")


CONFIG_DIR = _find_config_dir()


def compose(*overrides: str, output: str | Path, config_name: str = "train") -> DictConfig:
    """Compose a config like the command line, for notebooks and tests.

    Args:
        overrides: overrides such as `"model=efficientnet_lite2"`, `"trainer.max_epochs=5"`.
        output: run folder.
        config_name: name of the file in `conf/` without extension.

    Returns:
        The composed config, for `mlic.train.train`.
    """
    return compose_with_choices(*overrides, output=output, config_name=config_name)[0]


def compose_with_choices(
    *overrides: str, output: str | Path, config_name: str
) -> tuple[DictConfig, dict[str, str | None]]:
    """Return the result of `compose`, and the choice of each config group."""
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = hydra_compose(
            config_name, overrides=[*overrides, f"output='{output}'"], return_hydra_config=True
        )
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config.hydra
    return config, choices


def compose_again(*overrides: str, config_name: str) -> DictConfig:
    """Compose a config with other overrides than those of the running command.

    Raises:
        hydra.errors.HydraException: a choice does not exist, or does not have an overridden setting.
    """
    if GlobalHydra.instance().is_initialized():  # inside Hydra's main, whose search path is used
        return hydra_compose(config_name, overrides=list(overrides))
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return hydra_compose(config_name, overrides=list(overrides))


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to `{"head.dropout": 0.6, ...}`; lists are values."""
    if not isinstance(node, dict):
        return {prefix: node}
    pairs = [flatten(node[key], f"{prefix}.{key}" if prefix else str(key)) for key in node]
    return {key: value for pair in pairs for key, value in pair.items()}


def folder_name(overrides: str) -> str:
    """Return the folder name of a job, made of its overrides.

    Paths are reduced to their last part, other slashes become underscores, and long names are truncated. In these cases
    a digest is appended to keep names unique.

    Args:
        overrides: overrides joined by commas, such as `model=vgg16,seed=1`.
    """
    short = PARENTS.sub("", overrides).replace("/", "_")
    name = short.encode()[:NAME_BYTES].decode(errors="ignore").strip()
    if name == overrides and name.strip("."):
        return name
    return f"{name or 'defaults'}-{sha256(overrides.encode()).hexdigest()[:DIGEST_DIGITS]}"


# used for the folders of jobs in conf/train.yaml
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
