"""Checks of the settings before any work: missing values, unknown names, values of wrong types.

`conf/` is the only list of settings. A name is known if a file of the command contains it, and a value must have one of
the types of its defaults there, or one of those in OTHER_TYPES. The names of options of a class or function
(`_target_`) are also compared with its signature.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlic.config import CONFIG_DIR, flatten
from mlic.errors import InputError

# Mappings with arbitrary names, or with options that are checked elsewhere.
FREE = {
    "hydra", "callbacks", "logger", "tune.space", "features.augment", "data.class_weights.scale", "compare_options",
    "data.split.values", "data.split.files", "data.reader.unknown", "class_map", "thresholds",
}  # fmt: skip
# Settings that accept other types than those of their defaults.
UNTYPED = {
    "packages", "thresholds", "compare", "tune.trials", "data.annotations", "data.images",
    "model.backbone.unfreeze", "model.backbone.weights", "trainer.devices", "trainer.num_nodes", "trainer.precision",
}  # fmt: skip
# Types that the defaults do not show, most of which are null. A text in place of a list would be read by its letters.
OTHER_TYPES = {
    list: "data.reader.classes data.reader.controls data.reader.ignore_columns data.reader.label_columns "
    "head.neighbours head.penalties",
    int: "batch_size data.num_images data.num_workers data.split.fold data.split.folds features.num_workers "
    "head.num_queries num_workers port top_k tune.folds",
    float: "data.min_images_per_class data.reader.confidence days features.memory_gb precision recall tune.minutes",
    str: "data.reader.delimiter data.reader.encoding data.reader.image_key data.split.keep features.dir init_from "
    "output resume run tune.storage",
}
SUGGESTIONS, NETWORKS_SHOWN = 3, 5


def check_choices(arguments: Sequence[str]) -> None:
    """Check choices of the command line that Hydra would refuse with a traceback or without a way on.

    Args:
        arguments: arguments of a command, such as `["model=vgg16", "seed=1"]`.

    Raises:
        InputError: a group is null, or a network of `model=` does not exist.
    """
    known = [path.stem for path in Path(CONFIG_DIR, "model").glob("[!_]*.yaml")]
    # other networks may be in folders that only Hydra knows
    has_folders = any(
        argument.startswith(("--config-dir", "-cd", "hydra.searchpath")) for argument in arguments
    )
    for argument in arguments:
        group, _, choice = argument.partition("=")
        if choice == "null" and Path(CONFIG_DIR, group).is_dir():
            raise InputError(f"{argument}: {group} is a config group. Remove it with '~{group}'.")
        if group == "model" and not has_folders and "(" not in choice:
            for name in choice.split(","):
                if name not in known:
                    raise InputError(_unknown_model(name), key="model")


def _unknown_model(name: str) -> str:
    networks = similar_networks(name)
    similar = f"\nSimilar ones: {', '.join(networks)}" if networks else ""
    return (
        f"model={name}: must be one of those that 'mlic models' lists. Any network of timm:\n"
        f"  model=timm model.backbone.name={networks[0] if networks else '...'}{similar}"
    )


def similar_networks(name: str) -> list[str]:
    """Return names of timm networks with pretrained weights, with the tag of their default, most similar first."""
    import timm  # takes seconds to import
    from timm.models import get_pretrained_cfg

    found = get_close_matches(name.partition(".")[0], timm.list_models(), NETWORKS_SHOWN, 0.5)
    defaults = ((network, get_pretrained_cfg(network)) for network in found)
    return [f"{network}.{default.tag}" for network, default in defaults if default and default.has_weights]


def check_settings(config: DictConfig, command: str) -> None:
    """Check the names and types of settings without importing their targets.

    For example, Hydra adds `+lr=0.1` to the config, and the run would silently ignore it.

    Args:
        config: composed config.
        command: name of the file in `conf/` from which it was composed, without extension.

    Raises:
        InputError: a setting is missing, unknown (the message suggests similar ones), or has a wrong type.
    """
    defaults = _defaults(command)
    written: Any = OmegaConf.to_container(config, resolve=False)
    names = list(_names(written, defaults))
    for name in names:
        # a setting of the user's own is used if others refer to it
        if name not in defaults and f"${{{name}}}" not in OmegaConf.to_yaml(config):
            similar = " or ".join(f"'{key}'" for key in _similar(name, written))
            meant = f" Did you mean {similar}?" if similar else ""
            raise InputError(f"'{name}' is not a setting of mlic.{command}.{meant} --help lists all.")
    missing = [key for key, value in flatten(written).items() if value == "???"]
    # ~group removes a group
    missing += [
        name
        for name, values in defaults.items()
        if "." not in name and name not in config.keys() | FREE and None not in values
    ]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given; --help describes the settings.")
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:  # an interpolation without its setting
        raise InputError(f"{error.full_key}: {str(error).splitlines()[0]}.") from error
    for name in names:
        types, value = _types(name, defaults), plain
        for part in name.split("."):
            value = value[part]
        if name not in UNTYPED and types and not _is_instance(value, types):
            expected = " or ".join(sorted(kind.__name__ for kind in types)).replace("NoneType", "null")
            raise InputError(f"{name}: must be {expected}, got {'null' if value is None else value}.")


def check_options(config: DictConfig) -> None:
    """Compare the options of each `_target_` with the signature of that class or function.

    Args:
        config: config of a run.

    Raises:
        InputError: the target does not accept an option.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for name, node in _targets(plain):
        try:
            signature(get_object(node["_target_"])).bind_partial(
                **{key: value for key, value in node.items() if not key.startswith("_")}
            )
        except TypeError as error:
            raise InputError(f"{name}: {node['_target_']} {error}. --help lists its options.") from error


def _names(node: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield full names of settings, except those below FREE and further options of classes outside mlic."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        yield name
        has_settings = any(isinstance(default, dict) for default in known.get(name, ()))
        if isinstance(value, dict) and has_settings and name not in FREE:
            is_ours = str(value.get("_target_", "mlic.")).startswith("mlic.")
            below = _names(value, known, f"{name}.")
            yield from below if is_ours else (each for each in below if each in known)


def _similar(name: str, written: Any) -> list[str]:
    """Return settings with the same last part, else with a similar one."""
    last = {key: key.rpartition(".")[2] for key in flatten(written) if key != name and "_target_" not in key}
    part = name.rpartition(".")[2]
    alike = [part] if part in last.values() else get_close_matches(part, set(last.values()))
    return [key for key in last if last[key] in alike][:SUGGESTIONS]


def _types(name: str, defaults: Mapping[str, list[Any]]) -> set[type]:
    """Return the types of the defaults of a setting; empty if they cannot be inferred."""
    found = {kind for kind, names in OTHER_TYPES.items() if name in names.split()}
    for value in defaults.get(name, ()):
        if isinstance(value, str) and value.startswith("${"):
            found |= _types(value[2:-1], defaults)
        elif value != "???":
            found.add(type(value))
    return found if found - {type(None)} else set()


def _is_instance(value: Any, types: set[type]) -> bool:
    if isinstance(value, bool):  # which is an int, too
        return bool in types
    return isinstance(value, tuple(types)) or (isinstance(value, int) and float in types)


@cache
def _defaults(command: str) -> dict[str, list[Any]]:
    """Return the values of each full name in all files of a command, including all choices of its groups."""
    values: dict[str, list[Any]] = {}

    def add(node: Any, name: str) -> None:
        if name:
            values.setdefault(name, []).append(node)
        if isinstance(node, dict):
            for key, value in node.items():
                add(value, f"{name}.{key}" if name else str(key))

    for group, path in config_files(command):
        text = path.read_text() if path else "null"
        content = yaml.safe_load(text)
        if path:
            content.pop("defaults", None)
        add(content, "" if text.startswith("# @package _global_") else group)
    return values


def config_files(command: str) -> Iterator[tuple[str, Path | None]]:
    """Yield the config group (empty for the command itself) and the path of each file that a command can compose.

    The path is also None, once, for a group without a choice by default.
    """
    path = Path(CONFIG_DIR) / f"{command}.yaml"
    for entry in yaml.safe_load(path.read_text())["defaults"]:
        if isinstance(entry, str) and entry != "_self_":
            yield from config_files(entry)
        for group, choice in entry.items() if isinstance(entry, dict) else ():
            if group.startswith(("override ", "optional ")):  # the latter is the space of a search
                continue
            if choice is None:
                yield group, None
            yield from ((group, file) for file in sorted((Path(CONFIG_DIR) / group).glob("*.yaml")))
    yield "", path


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and content of each mapping with a `_target_`, outermost first."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield prefix, node
        for key, value in node.items():
            yield from _targets(value, f"{prefix}.{key}" if prefix else str(key))
