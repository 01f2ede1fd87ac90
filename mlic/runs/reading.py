"""The one reader of a run folder's JSON and YAML files, which may come from anyone."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mlic.errors import InputError
from mlic.runs.folder import (
    DATASET_FILE,
    FORMAT,
    METRICS_FILE,
    MODEL_FILE,
    OVERRIDES_FILE,
    STATUS_FILE,
    THRESHOLDS_FILE,
)

ANY = "*"  # all keys
NUMBER, TEXT, LIST, NUMBERS = "a number", "text", "a list", "a number or a list of numbers"
COUNT, SHAPE = "a count", "a list of counts"
TEXTS = "a list of texts"
NEVER_UNKNOWN = (LIST, COUNT, SHAPE, TEXTS)
PER_CLASS, COUNTS = {ANY: NUMBER}, {ANY: COUNT}
METRICS = {"per_class": {ANY: {ANY: NUMBER}}, "undefined": {ANY: LIST}, ANY: NUMBER}

Form = str | Mapping[str, Any]
FORMS: dict[str, Mapping[str, Form]] = {
    STATUS_FILE: {
        "format": COUNT, "state": TEXT, "seconds": {ANY: NUMBER}, "error": {}, "started": TEXT, "overrides": TEXTS,
    },
    MODEL_FILE: {
        "name": TEXT, "weights_tag": TEXT, "image_size": NUMBERS, "backbone_parameters": NUMBER,
        "head_parameters": NUMBER, "feature_shape": SHAPE, "pool": TEXT, "precision": TEXT,
    },
    DATASET_FILE: {
        "classes": LIST, "images": {ANY: NUMBER}, "counts": {ANY: COUNTS},
        "curation": {"dropped_classes": COUNTS}, "split": {"hash": TEXT}, "source": {"images": TEXT},
    },
    METRICS_FILE: {ANY: METRICS},
    THRESHOLDS_FILE: {"per_class": PER_CLASS},
}  # fmt: skip
LARGEST_COUNT = 10**12  # beyond are numbers that arrays and axes cannot hold
MAX_OVERRIDES = 1000
MAX_DEPTH = 50
_OPENING = (
    yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken,
)  # fmt: skip
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def read_record(folder: Path, name: str) -> tuple[dict[str, Any], list[str]]:
    """Read one of the JSON files of a run folder.

    Args:
        folder: of a run.
        name: one of `FORMS`.

    Returns:
        The content that has the form `mlic.train` writes, and what is wrong with the file, in words. A missing file is
        an empty one with a problem.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, [f"{name} is missing"]
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{name} cannot be read ({type(error).__name__}: {error})"]
    if not isinstance(content, dict):
        return {}, [f"{name} cannot be read (expected a JSON object)"]
    return content, [f"{name}: {wrong}, and left out" for wrong in keep_fitting(content, FORMS[name])]


def check_format(folder: Path) -> None:
    """Refuse the folder of a newer version of mlic, whose files may mean something else.

    Folders without a version are from before there was one, and are read.

    Raises:
        InputError: the folder's status.json has a version above `FORMAT`.
    """
    version = read_record(folder, STATUS_FILE)[0].get("format", 0)
    if version > FORMAT:
        raise InputError(
            f"'{folder}' is a run folder of format {version}, written by a newer version of mlic. This version reads "
            f"formats up to {FORMAT}: update mlic."
        )


def read_overrides(folder: Path) -> list[str]:
    """Return the overrides of the command that made a run folder; empty without a command.

    Raises:
        ValueError: the file that holds them in older run folders is broken.
    """
    status, _ = read_record(folder, STATUS_FILE)
    if "overrides" in status:
        return status["overrides"][:MAX_OVERRIDES]
    file = folder / OVERRIDES_FILE
    return load_overrides(file.read_text(encoding="utf-8")) if file.is_file() else []


def keep_fitting(content: dict[str, Any], form: Mapping[str, Form], place: str = "") -> list[str]:
    """Take out of parsed JSON what is not of the form that `mlic.train` writes.

    Args:
        content: changed in place. None stands for an unknown number or text.
        form: what is expected under each key; keys that it does not name are left.
        place: of `content` in the file, for the messages.

    Returns:
        What was taken out, in words.
    """
    wrong = []
    for key in list(content):
        expected = form.get(key, form.get(ANY))
        if expected is None:
            continue
        value, name = content[key], f"{place}{key}"
        if isinstance(expected, str):
            unknown = value is None and expected not in NEVER_UNKNOWN
            if not unknown and not _is(value, expected):
                wrong.append(f"{name} is not {expected}")
                del content[key]
        elif isinstance(value, dict):
            wrong += keep_fitting(value, expected, f"{name}.")
        else:
            wrong += [f"{name} is not an object"] if value is not None else []
            del content[key]
    return wrong


def _is(value: Any, kind: str) -> bool:
    if kind == LIST:
        return isinstance(value, list) and all(_is(item, TEXT) or _is(item, NUMBER) for item in value)
    if kind == TEXT:
        return isinstance(value, str)
    if kind == TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == SHAPE:
        return isinstance(value, list) and all(_is(item, COUNT) for item in value)
    if kind == COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT
    if kind == NUMBERS and isinstance(value, list):
        return all(_is(item, NUMBER) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def load_plain_yaml(text: str) -> Any:
    """Parsed YAML as plain values: no objects are made, and `${...}` stays text.

    A run folder may come from anyone, and OmegaConf would put environment variables in the place of `${oc.env:...}`.

    Raises:
        ValueError: not YAML, nested too deep, or with aliases, by which some bytes stand for billions of values.
    """
    try:
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise ValueError("it has aliases")
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > MAX_DEPTH:  # PyYAML's time grows with the square of it
                raise ValueError("nested too deep")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not valid YAML: {error}") from error


def load_overrides(text: str) -> list[str]:
    """The list of overrides that Hydra writes.

    Raises:
        ValueError: it is something else.
    """
    content = load_plain_yaml(text)
    if content is None:
        return []
    if not isinstance(content, list) or len(content) > MAX_OVERRIDES:
        raise ValueError(f"expected a list of at most {MAX_OVERRIDES} overrides")
    if not all(isinstance(item, str) for item in content):
        raise ValueError("expected a list of text")
    return content
