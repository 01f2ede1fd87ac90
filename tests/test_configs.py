"""Every shipped config is composed, and what it names is built."""

import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import hydra_plugins.hydra_submitit_launcher.config as submitit_config
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.utils import get_class, get_method
from omegaconf import DictConfig, OmegaConf

from mlic.config import CONFIG_DIR, compose

GROUPS = {
    path.name: sorted(file.stem for file in path.glob("*.yaml") if not file.stem.startswith("_"))
    for path in sorted(Path(CONFIG_DIR).iterdir())
    if path.is_dir() and path.name != "hydra"
}
NEEDED = ("csv", "coco", "voc", "webdataset", "openimages", "labelstudio", "imagesets", "imagefolder")


def overrides_for(group: str, choice: str) -> list[str]:
    places = ["data.annotations=labels", "data.images=images"] if group == "data" and choice in NEEDED else []
    name = ["model.backbone.name=test_resnet"] if (group, choice) == ("model", "timm") else []
    return [f"{group}={choice}", *places, *name]


def targets(node: Any) -> list[str]:
    """All `_target_` of a plain config."""
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []


def resolved(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_composes_and_names_what_exists(group: str, tmp_path: Path):
    config_name = "tune" if group == "tune" else "train"
    for choice in GROUPS[group]:
        config = compose(*overrides_for(group, choice), output=tmp_path, config_name=config_name)
        found = targets(resolved(config))
        assert len(found) >= 6
        for target in found:
            is_class = target.rpartition(".")[2][0].isupper()
            assert get_class(target) if is_class else callable(get_method(target)), choice


def test_the_report_experiment_is_the_report_protocol(tmp_path: Path):
    for model, hidden, dropout, batch in [
        ("vgg16", [256], 0.6, 128),
        ("inception_v3", [256], 0.7, 64),
        ("resnet152v2", [256, 128], 0.6, 32),
        ("nasnetlarge", [256], 0.7, 32),
    ]:
        config = resolved(compose("experiment=report", f"model={model}", output=tmp_path))
        split = config["data"]["split"]
        assert (split["test"], split["val"], split["seed"], split["folds"]) == (0.1, 0, 0, None)
        assert config["data"]["class_weights"]["scale"] == {"person": 0.5}
        assert config["data"]["min_images_per_class"] == 0.02
        assert config["trainer"]["max_epochs"] == 40
        assert config["model"]["backbone"]["pool"] == "flatten"
        assert (config["head"]["hidden"], config["head"]["dropout"]) == (hidden, dropout)
        assert config["data"]["batch_size"] == batch
        assert set(config["callbacks"]) == {"checkpoint", "last", "epoch_table", "progress"}
        assert (config["head"]["standardize"], config["head"]["hidden_dropout"]) == (False, 0)
        assert (config["loss"]["label_smoothing"], config.get("scheduler")) == (0, None)
        assert (config["model"]["backbone"]["mirror"], config["model"]["backbone"]["unfreeze"]) == (False, 0)


def test_comparisons_of_networks_hold_the_whole_list_cheapest_first():
    gmacs = {}
    for file in (Path(CONFIG_DIR) / "model").glob("*.yaml"):
        if found := re.search(r"([\d.]+) GMACs", file.read_text()):
            gmacs[file.stem] = float(found[1])
    compared: set[str] = set()
    for name in ("small", "medium", "large"):
        config: Any = OmegaConf.load(Path(CONFIG_DIR) / "experiment" / f"{name}.yaml")
        models = config.hydra.sweeper.params.model.split(",")
        # of nearly equal work, the order is that of the table
        assert all(gmacs[one] < gmacs[other] * 1.02 for one, other in itertools.pairwise(models))
        compared.update(models)
    of_the_report = {"vgg16", "inception_v3", "resnet152", "resnet152v2", "nasnetlarge"}
    assert compared == gmacs.keys() - of_the_report - {"efficientnet_lite1", "efficientnet_lite2"}


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_launchers_take_the_settings_of_their_config(launcher: str):
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = hydra_compose("train", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    settings = config.hydra.launcher
    name, known = settings._target_, inspect.signature(get_class(settings._target_)).parameters
    if launcher == "slurm":
        known = submitit_config.SlurmQueueConf.__dataclass_fields__
    assert {key for key in settings if key != "_target_"} <= set(known)
    assert name in Plugins.instance().class_name_to_class
