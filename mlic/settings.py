"""Checks of the settings before any work: missing values, unknown names, values of wrong types.

`conf/` is the only list of settings. A name is known if a file of the command contains it, and the type of a value
must be one of the types of its defaults. Options of a class or function (`_target_`) are also compared with its
signature.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlic.config import CONFIG_DIR, flatten
from mlic.errors import InputError

# Mappings with arbitrary names, or with options that are checked elsewhere.
FREE = {
    "hydra", "callbacks", "logger", "tune.space", "features.augment", "data.class_weights.scale", "compare_options",
    "data.split.values", "data.split.files", "data.reader.unknown", "class_map",
    "thresholds",
}  # fmt: skip
# Types that cannot be inferred from the defaults, such as null.
KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (str,),
        "run output dir tune.storage init_from resume features.dir part labels reference model.name write rank check",
    ),
    ((str,), "data.split.column data.split.keep data.split.groups.by"),
    ((str, int), "data.split.groups.value"),
    ((str, dict), "data.split.files"),
    ((str,), "model.backbone.name model.backbone.precision model.backbone.unfreeze"),
    ((str, list), "packages runs images model.backbone.weights data.images data.annotations"),
    (
        (int,),
        "top_k batch_size num_workers data.num_images data.num_workers data.split.folds data.split.fold",
    ),
    ((int,), "port tune.folds features.num_workers model.backbone.image_size"),
    ((int, NoneType), "tune.trials"),
    (
        (float,),
        "tune.minutes days precision recall features.memory_gb data.min_images_per_class model.backbone.crop_pct",
    ),
    ((list,), "data.reader.classes data.reader.ignore_columns"),
    ((float, dict), "thresholds"),
    (
        (dict,),
        "compare compare_options class_map data.class_weights.scale data.split.values features.augment",
    ),
)
WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
    dict: "a mapping", NoneType: "null",
}  # fmt: skip
SUGGESTIONS, NETWORKS_SHOWN = 3, 5
EXAMPLES = {
    "run": "outputs/first", "runs": "outputs", "data": "csv", "data.annotations": "labels.csv",
    "data.images": "photos", "images": "photos", "output": "outputs/results",
    "model.backbone.name": "resnet50.a1_in1k",
}  # fmt: skip


def check_choices(arguments: Sequence[str]) -> None:
    """Check choices of the command line that Hydra would refuse with a traceback or without a way on.

    Args:
        arguments: arguments of a command, such as `["model=vgg16", "seed=1"]`.

    Raises:
        InputError: a group is null, or a network of `model=` does not exist.
    """
    known = [path.stem for path in Path(CONFIG_DIR, "model").glob("[!_]*.yaml")]
    # other networks may be in folders that only Hydra knows
    has_folders = any(re.match("--config-dir|-cd|hydra.searchpath", argument) for argument in arguments)
    for argument in arguments:
        group, _, choice = argument.partition("=")
        if choice == "null" and (Path(CONFIG_DIR) / group).is_dir():
            raise InputError(f"{argument}: {group} is a config group. Remove it with '~{group}'.")
        for name in choice.split(",") if group == "model" and not has_folders else ():
            if re.fullmatch(r"[\w.-]+", name) and name not in known:
                raise InputError(_unknown_model(name, known), key="model")


def _unknown_model(name: str, known: Sequence[str]) -> str:
    similar, networks = get_close_matches(name, known), similar_networks(name)
    return "\n".join(
        [
            f"model={name}: must be one of those that 'mlic models' lists"
            + (f", such as {', '.join(similar)}." if similar else "."),
            f"Or any timm network:  model=timm model.backbone.name={networks[0] if networks else '...'}",
            *([f"Similar ones: {', '.join(networks)}"] if networks[1:] else []),
        ]
    )


def similar_networks(name: str) -> list[str]:
    """Return names of timm networks that have weights, with the tag of their default, the most similar first."""
    import timm  # takes seconds to import
    from timm.models import get_pretrained_cfg

    stem = name.partition(".")[0]
    found = get_close_matches(stem, timm.list_models(), 2 * NETWORKS_SHOWN) or timm.list_models(f"*{stem}*")
    pairs = ((network, get_pretrained_cfg(network)) for network in found)
    return [f"{network}.{known.tag}" for network, known in pairs if known and known.has_weights][
        :NETWORKS_SHOWN
    ]


def check_settings(config: DictConfig, command: str) -> None:
    """Check the names and types of settings without importing their targets.

    For example, Hydra adds `+lr=0.1` to the config, and the run would silently ignore it.

    Args:
        config: composed config.
        command: name of the file in `conf/` from which it was composed, without extension.

    Raises:
        InputError: a setting is missing, unknown (the message suggests similar ones), or has a wrong type.
    """
    for name in unknown_names(config, command):
        raise InputError(_unknown(config, name, command))
    _refuse_missing(config, _defaults(command))
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:  # an interpolation without its setting
        raise InputError(f"{error.full_key}: {str(error).splitlines()[0]}.") from error
    _refuse_wrong_kinds(plain, _defaults(command))


def unknown_names(config: DictConfig, command: str) -> list[str]:
    """Return the full names that no file of the command contains and no `${...}` refers to."""
    defaults = _defaults(command)
    plain: Any = OmegaConf.to_container(config, resolve=False)
    names = [name for name in _names(plain, defaults) if name not in defaults]
    return [name for name in names if not _is_referred_to(config, name)]


def check_options(config: DictConfig) -> None:
    """Compare the options of each `_target_` with the signature of that class or function.

    Args:
        config: config of a run.

    Raises:
        InputError: the target does not accept an option, or not its type.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for name, node in _targets(plain):
        _check_signature(name, node)


def _refuse_missing(config: DictConfig, defaults: Mapping[str, list[Any]]) -> None:
    plain = flatten(OmegaConf.to_container(config))
    missing = [key for key, value in plain.items() if value == "???"]
    # without groups that were removed by ~group
    missing += [
        name
        for name in defaults
        if "." not in name and name not in config.keys() | FREE and None not in defaults[name]
    ]
    if missing:
        examples = " ".join(f"{key}={EXAMPLES.get(key, '...')}" for key in missing)
        names = " and ".join([", ".join(missing[:-1]), missing[-1]] if missing[1:] else missing)
        raise InputError(f"{names} must be given, such as {examples}.")


def _refuse_wrong_kinds(plain: dict[str, Any], defaults: Mapping[str, list[Any]]) -> None:
    for name in _names(plain, defaults):
        kinds = _kinds(name, defaults)
        value = _value(plain, name)
        if kinds and not any(_is(value, kind) for kind in kinds):
            words = " or ".join(WORDS[kind] for kind in WORDS if kind in kinds)
            raise InputError(f"{name}: must be {words}, got {'null' if value is None else value}.")


def _kinds(name: str, defaults: Mapping[str, list[Any]]) -> set[type]:
    """Return the types of the defaults of a setting; empty if they cannot be inferred."""
    listed = {kind for kinds, names in KINDS if name in names.split() for kind in kinds}
    found = set()
    for value in defaults.get(name, ()):
        reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if reference:
            found |= _kinds(reference[1], defaults)
        elif value != "???":
            found.add(type(value))
    return (listed | found) if listed or found - {NoneType} else set()


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) or (kind is str and isinstance(value, Path))


def _names(node: Mapping[str, Any], known: Mapping[str, list[Any]], prefix: str = "") -> Iterator[str]:
    """Yield full names of settings, except those below FREE and options of classes outside mlic."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        yield name
        has_settings = any(isinstance(default, dict) for default in known.get(name, ()))
        if not has_settings or name in FREE or not isinstance(value, dict):
            continue
        if str(value.get("_target_", "mlic.")).startswith("mlic."):
            yield from _names(value, known, f"{name}.")


def _value(node: Any, name: str) -> Any:
    for part in name.split("."):
        node = node[part]
    return node


def _is_referred_to(config: DictConfig, full: str) -> bool:
    text = OmegaConf.to_yaml(config)
    if HydraConfig.initialized():  # names of folders may refer to it
        text += OmegaConf.to_yaml(HydraConfig.get())
    prefix, _, name = full.rpartition(".")
    relative = rf"\.{{{1 if prefix else 2},}}{re.escape(name)}"
    return re.search(rf"\$\{{([^}}]*(?<![\w.]){re.escape(full)}|{relative})\b", text) is not None


@cache
def _defaults(command: str) -> dict[str, list[Any]]:
    """Return the values of each full name in all files of a command, including all choices of its groups."""
    values: dict[str, list[Any]] = {}
    for group, path in config_files(command):
        if path is None:
            _add_values(values, None, group)
            continue
        text = path.read_text()
        content = {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}
        _add_values(values, content, "" if text.startswith("# @package _global_") else group)
    return values


def _add_values(values: dict[str, list[Any]], node: Any, name: str) -> None:
    if name:
        values.setdefault(name, []).append(node)
    if isinstance(node, dict):
        for key, value in node.items():
            _add_values(values, value, f"{name}.{key}" if name else str(key))


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
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield prefix, node
    for key, value in node.items():
        yield from _targets(value, f"{prefix}.{key}" if prefix else str(key))


def _check_signature(name: str, node: Mapping[str, Any]) -> None:
    target = get_object(node["_target_"])
    parameters = signature(target).parameters
    options = {str(key): value for key, value in node.items() if not str(key).startswith("_")}
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _hints(target)
    for option, value in options.items():
        if option not in parameters and not takes_any:
            others = ", ".join(key for key in options if key != option) or "none"
            raise InputError(
                f"'{name}.{option}': {node['_target_']} has no such option. Other options set here: {others}."
            )
        default = parameters[option].default if option in parameters else value
        is_default = type(value) is type(default) and value == default
        if option in hints and not is_default and not _fits(value, hints[option]):
            words = getattr(hints[option], "__name__", None) if isinstance(hints[option], type) else None
            words = words or re.sub(
                r"\b(typing|collections\.abc|pathlib)\.|(?<=None)Type", "", str(hints[option])
            )
            raise InputError(
                f"{name}.{option}: must be {words}, got {'null' if value is None else value} ({node['_target_']})."
            )


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if isinstance(target, type) else target)
    except Exception:  # names that exist only for type checkers
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Return True unless a supported type hint excludes the value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(value, dict) and "_target_" in value:  # becomes an object
        return True
    if origin in (Union, UnionType):
        # "abc" is invalid for float | Tensor, although Tensor is not a supported hint
        understood = [argument for argument in arguments if _is_understood(argument)]
        return not understood or any(_fits(value, argument) for argument in understood)
    if origin is Literal:
        return value in arguments
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, dict)
    if origin is not None and origin is not type and issubclass(origin, Iterable):
        element = arguments[0] if arguments else Any
        return isinstance(value, list) and all(_fits(each, element) for each in value)
    if hint is Path:
        return isinstance(value, str)
    return not _is_understood(hint) or _is(value, hint)


def _is_understood(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType, Literal):
        return True
    is_collection = isinstance(origin, type) and origin is not type and issubclass(origin, Iterable)
    return is_collection or hint is Path or hint in WORDS


def _unknown(config: DictConfig, name: str, command: str) -> str:
    similar = [f"'{key}'" for key in _similar(config, name)]
    meant = f" Did you mean {' or '.join(similar)}?" if similar else ""
    return f"'{name}' is not a setting of mlic.{command}.{meant} --help lists all."


def _similar(config: DictConfig, name: str) -> Iterator[str]:
    """Yield settings with the same last part, else with a similar one."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    keys = [key for key in flatten(plain) if key != name and "_target_" not in key]
    last = {key: key.rpartition(".")[2] for key in keys}
    part = name.rpartition(".")[2]
    alike = {part} if part in last.values() else set(get_close_matches(part, set(last.values())))
    yield from [key for key in keys if last[key] in alike][:SUGGESTIONS]
