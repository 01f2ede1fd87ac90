"""Settings that no command can use: unknown names, such as a `+` adds them, missing values, values of a wrong kind."""

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
from omegaconf.errors import OmegaConfBaseException

from mlic.config import CONFIG_DIR, flatten
from mlic.errors import InputError

# nodes that are no class's settings: a class refuses by itself what it does not know
PLAIN_NODES = {
    "data.split": "test val seed on_missing folds fold",
    "data.class_weights": "scheme scale",
    "model": "name backbone recipe",
    "model.recipe": "dropout hidden hidden_dropout batch_size",
    "features": "mode dir dtype views batch_size num_workers shard_mb shard_seconds memory_gb augment",
    "tune": "heads folds metric seed halving space",
    "tune.halving": "first eta",
}
LATE_PARTS = ("data.reader", "head", "loss", "optimizer", "scheduler")
SUGGESTIONS = 3
# of values that must be given
EXAMPLES = {
    "run": "outputs/first", "runs": "outputs", "data": "csv", "data.annotations": "labels.csv",
    "data.images": "photos", "images": "photos", "output": "outputs/results",
    "model.backbone.name": "resnet50.a1_in1k",
}  # fmt: skip
# by reader
REQUIRED = {
    "mlic.data.read_csv": "data.annotations data.images",
    "mlic.data.read_coco": "data.annotations data.images",
    "mlic.data.read_voc": "data.annotations data.images",
    "mlic.data.read_webdataset": "data.images",
}
# in words, types, and settings; "?" marks those that may be null. Classes check the options that they take
KINDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    (
        "a path",
        (str, Path),
        "run output dir? data.annotations? data.images? init_from? resume? features.dir?",
    ),
    ("a path or a list of paths", (str, Path, list), "runs images model.backbone.weights?"),
    (
        "a text",
        (str,),
        "action device objective reference? tune.metric data.reader.separator model.name model.backbone.name",
    ),
    ("'calibrated' or a number", (str, int, float), "thresholds"),
    ("a list of class names", (list,), "classes data.reader.classes?"),
    ("true or false", (bool,), "tensorboard activation_maps"),
    (
        "a whole number",
        (int,),
        (
            "top_k? batch_size? num_workers? resamples drawn_runs gallery_images "
            "data.num_workers? data.split.folds? data.split.fold suspects.folds suspects.rows "
            "tune.heads tune.folds? trainer.log_every_n_steps? trainer.num_sanity_val_steps?"
        ),
    ),
    (
        "a number",
        (int, float),
        (
            "days? data.batch_size suspects.strength features.shard_mb features.memory_gb? head.dropout "
            "head.hidden_dropout loss.gamma loss.gamma_neg loss.gamma_pos loss.clip loss.label_smoothing "
            "scheduler.warmup scheduler.final"
        ),
    ),
    ("a list of widths, such as [512, 256]", (list,), "head.hidden"),
    ("a factor for each class, such as {person: 0.5}", (dict,), "data.class_weights.scale?"),
    ("true, false or options of mlic.compare", (bool, dict), "compare?"),
)
ABSENT = object()


def refuse_unknown(config: DictConfig, command: str) -> None:
    """Refuse settings that a command cannot use, before any work.

    Hydra adds `+lr=0.1` as it is told to, and the run would train without it.

    Args:
        config: as composed.
        command: the file in `conf/` that it was composed from, without ending.

    Raises:
        InputError: names a setting that is missing, unknown (with those that are called so), or of a wrong kind.
    """
    _refuse_missing(config)
    for name in unknown_names(config, command):
        raise InputError(_message(config, name, command))
    _refuse_wrong_kinds(config)


def _refuse_missing(config: DictConfig) -> None:
    plain = flatten(OmegaConf.to_container(config))
    missing = [key for key, value in plain.items() if value == "???"]
    for key in REQUIRED.get(str(plain.get("data.reader._target_")), "").split():
        missing += [key] if plain.get(key, ABSENT) is None else []
    if missing:
        examples = " ".join(f"{key}={EXAMPLES.get(key, '...')}" for key in missing)
        names = " and ".join([", ".join(missing[:-1]), missing[-1]] if missing[1:] else missing)
        raise InputError(f"{names} must be given, such as {examples}.")


def _refuse_wrong_kinds(config: DictConfig) -> None:
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:  # of an interpolation
        raise InputError(f"{error.full_key}: {str(error).splitlines()[0]}.") from error
    for words, types, names in KINDS:
        for key in names.split():
            name = key.rstrip("?")
            value = _value_of(plain, name)
            if value is ABSENT or (value is None and key != name) or _is_checked_elsewhere(plain, name):
                continue
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise InputError(f"{name}: must be {words}, got {'null' if value is None else value}.")


def _value_of(node: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return ABSENT
        node = node[part]
    return node


def _is_checked_elsewhere(plain: dict[str, Any], name: str) -> bool:
    """Return True where a reader, head, loss or schedule of one's own may take other kinds, or shards a list."""
    part = name.partition(".")[0]
    target = str(_value_of(plain, "data.reader._target_" if part == "data" else f"{part}._target_"))
    if part == "data":
        of_shards = name == "data.images" and target == "mlic.data.read_webdataset"
        return of_shards or not target.startswith("mlic.")
    return part in LATE_PARTS and not target.startswith("mlic.")


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
