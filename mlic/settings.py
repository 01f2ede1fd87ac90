"""Settings that nothing reads: what a `+` on the command line, or a file of one's own, adds under a wrong name."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from mlic.config import CONFIG_DIR, flatten
from mlic.errors import InputError

# nodes that are no class's settings: a class refuses by itself what it does not know
PLAIN_NODES = {
    "data.split": "test val seed on_missing folds fold",
    "data.class_weights": "scheme scale normalize beta",
    "model": "name backbone recipe",
    "model.recipe": "dropout hidden hidden_dropout batch_size",
    "features": "mode dir dtype views batch_size num_workers shard_mb shard_seconds memory_gb augment",
    "tune": "heads folds metric seed halving precision bank_mb space",
    "tune.halving": "first eta",
}
LATE_PARTS = ("data.reader", "head", "loss", "optimizer", "scheduler")
SUGGESTIONS = 3


def refuse_unknown(config: DictConfig, command: str) -> None:
    """Refuse names that nothing reads: Hydra adds `+lr=0.1` as it is told to, and the run would train without it.

    Args:
        config: as composed.
        command: the file in `conf/` that it was composed from, without ending.

    Raises:
        InputError: names the setting, and those that are called so.
    """
    for name in unknown_names(config, command):
        raise InputError(_message(config, name, command))


def unknown_names(config: DictConfig, command: str) -> list[str]:
    """Full names of what nothing reads; a value that another setting takes over by `${...}` may have any name."""
    plain = {prefix: set(names.split()) for prefix, names in PLAIN_NODES.items()}
    nodes = {**plain, **dict(_nodes(_read(command))), "": _known_names(command)}
    found = []
    for prefix, known in nodes.items():
        node = OmegaConf.select(config, prefix) if prefix else config
        names = [str(name) for name in node if name not in known] if OmegaConf.is_dict(node) else []
        found += [f"{prefix}.{name}" if prefix else name for name in names]
    return [name for name in found if not _is_taken_over(config, name)]


def _is_taken_over(config: DictConfig, full: str) -> bool:
    text = OmegaConf.to_yaml(config)
    if HydraConfig.initialized():  # names of folders may be made of it
        text += OmegaConf.to_yaml(HydraConfig.get())
    prefix, _, name = full.rpartition(".")
    relative = rf"\.{{{1 if prefix else 2},}}{re.escape(name)}"
    return re.search(rf"\$\{{([^}}]*(?<![\w.]){re.escape(full)}|{relative})\b", text) is not None


def refuse_unknown_options(config: DictConfig) -> None:
    """Refuse options that a class or function does not take which is made from the config after long work only.

    Args:
        config: of a run.

    Raises:
        InputError: names the option, and those that are set there.
    """
    for name in unknown_options(config):
        part, _, option = name.rpartition(".")
        node = OmegaConf.select(config, part)
        there = (
            ", ".join(str(key) for key in node if key != option and not str(key).startswith("_")) or "none"
        )
        raise InputError(f"'{name}': {node['_target_']} takes no such option. Set here: {there}.")


def unknown_options(config: DictConfig) -> list[str]:
    """Full names of the options that the targets of LATE_PARTS do not take."""
    found = []
    for part in LATE_PARTS:
        node = OmegaConf.select(config, part)
        if node is None:
            continue
        parameters = signature(get_object(node["_target_"])).parameters
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
            names = [str(name) for name in node if not str(name).startswith("_")]
            found += [f"{part}.{name}" for name in names if name not in parameters]
    return found


def _read(command: str) -> dict[str, Any]:
    return yaml.safe_load((Path(CONFIG_DIR) / f"{command}.yaml").read_text())


def _nodes(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Mappings in a file, each with its keys."""
    for key, value in content.items():
        if isinstance(value, dict) and key != "hydra":
            yield f"{prefix}{key}", set(value)
            yield from _nodes(value, f"{prefix}{key}.")


def _known_names(command: str) -> set[str]:
    content = _read(command)
    known = set(content) - {"defaults", "hydra"}
    for entry in content["defaults"]:
        if isinstance(entry, dict):
            known |= {group for group in entry if not group.startswith("override ")}
        elif entry != "_self_":
            known |= _known_names(entry)
    return known


def _message(config: DictConfig, name: str, command: str) -> str:
    similar = [f"'{key}'" for key in _similar(config, name)]
    meant = f" Did you mean {' or '.join(similar)}?" if similar else ""
    return f"'{name}' is no setting of mlic.{command}, nothing would read it.{meant} --help lists all."


def _similar(config: DictConfig, name: str) -> Iterator[str]:
    """Settings with the same last part, else with a similar one."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    keys = [key for key in flatten(plain) if key != name and "_target_" not in key]
    last = {key: key.rpartition(".")[2] for key in keys}
    part = name.rpartition(".")[2]
    alike = {part} if part in last.values() else set(get_close_matches(part, set(last.values())))
    yield from [key for key in keys if last[key] in alike][:SUGGESTIONS]
