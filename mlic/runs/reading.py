"""The reader of JSON and YAML files of run folders, which are not trusted."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlic.errors import InputError
from mlic.runs.folder import (
    DATASET_FILE,
    EVALUATION_FILE,
    FORMAT,
    METRICS_FILE,
    MODEL_FILE,
    STATUS_FILE,
    THRESHOLDS_FILE,
)

LARGEST_COUNT = 10**12  # arrays and axes cannot represent larger numbers
MAX_OVERRIDES = 1000
MAX_DEPTH = 50


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _optional(*kinds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check for null, which stands for an unknown value, or one of some kinds."""
    return lambda value: value is None or any(kind(value) for kind in kinds)


ANY = "*"  # all keys
NUMBER, TEXT, COUNT = _optional(_is_number), _optional(_is_text), _is_count
LIST, COUNTS, PER_CLASS = _is_list(lambda value: TEXT(value) or NUMBER(value)), {ANY: COUNT}, {ANY: NUMBER}
METRICS = {"per_class": {ANY: {ANY: NUMBER}}, "undefined": {ANY: LIST}, ANY: NUMBER}

Form = Callable[[Any], bool] | Mapping[str, Any]
FORMS: dict[str, Mapping[str, Form]] = {
    STATUS_FILE: {
        "format": COUNT, "state": TEXT, "seconds": {ANY: NUMBER}, "error": {}, "started": TEXT,
        "overrides": _is_list(_is_text), "machine": TEXT,
    },
    MODEL_FILE: {
        "name": TEXT, "weights_tag": TEXT, "image_size": _optional(_is_number, _is_list(_is_number)),
        "backbone_parameters": NUMBER, "head_parameters": NUMBER, "feature_shape": _is_list(_is_count),
        "pool": TEXT, "precision": TEXT, "seconds_per_image": NUMBER, "machine": TEXT,
    },
    DATASET_FILE: {
        "classes": LIST, "images": {ANY: NUMBER}, "counts": {ANY: COUNTS},
        "curation": {"dropped_classes": COUNTS}, "split": {"hash": TEXT},
        "source": {"images": _optional(_is_text, _is_list(_is_text))},
    },
    METRICS_FILE: {ANY: METRICS},
    THRESHOLDS_FILE: {"common": NUMBER, "per_class": PER_CLASS, "folds": {ANY: PER_CLASS}},
}  # fmt: skip
FORMS[EVALUATION_FILE] = {
    "run": TEXT, "images_in_run": COUNTS, "thresholds": FORMS[THRESHOLDS_FILE], "model": FORMS[MODEL_FILE],
    "settings": {}, "dataset": FORMS[DATASET_FILE],
}  # fmt: skip
_OPENING = (
    yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken,
)  # fmt: skip
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def read_record(folder: Path, name: str) -> tuple[dict[str, Any], list[str]]:
    """Read one of the JSON files of a run folder.

    Args:
        folder: run folder.
        name: one of `FORMS`.

    Returns:
        The content that has the form written by `mlic.train`, and descriptions of problems. A missing file is
        returned as empty with a problem.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, [f"{name} is missing"]
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{name} cannot be read ({type(error).__name__}: {error})"]
    if not isinstance(content, dict):
        return {}, [f"{name} cannot be read (expected a JSON object)"]
    return content, [f"{name}: {wrong}, and is ignored" for wrong in keep_fitting(content, FORMS[name])]


def check_format(folder: Path) -> None:
    """Refuse a folder of a newer version of mlic, whose files may have another meaning.

    Folders without a version are older and are accepted.

    Raises:
        InputError: the version in status.json is above `FORMAT`.
    """
    version = read_record(folder, STATUS_FILE)[0].get("format", 0)
    if version > FORMAT:
        raise InputError(
            f"'{folder}' is a run folder of format {version}, written by a newer version of mlic. This version reads "
            f"formats up to {FORMAT}: update mlic."
        )


def read_overrides(folder: Path) -> list[str]:
    """Return the overrides of the command that created a run folder; empty without a command."""
    return read_record(folder, STATUS_FILE)[0].get("overrides", [])[:MAX_OVERRIDES]


def keep_fitting(content: dict[str, Any], form: Mapping[str, Form], place: str = "") -> list[str]:
    """Remove parts of parsed JSON that do not have the form written by `mlic.train`.

    Args:
        content: parsed JSON, changed in place. None stands for an unknown number or text.
        form: expected form of each key; other keys are kept.
        place: place of `content` in the file, for the messages.

    Returns:
        Descriptions of the removed parts.
    """
    wrong = []
    for key, value in list(content.items()):
        expected, name = form.get(key, form.get(ANY)), f"{place}{key}"
        if expected is None:
            continue
        if isinstance(expected, Mapping) and isinstance(value, dict):
            wrong += keep_fitting(value, expected, f"{name}.")
        elif isinstance(expected, Mapping) or not expected(value):
            if value is not None:
                wrong.append(f"{name} has an unexpected form")
            del content[key]
    return wrong


def load_plain_yaml(text: str) -> Any:
    """Parse YAML to plain values; no objects are created, and `${...}` stays text.

    Run folders are not trusted, and OmegaConf would replace `${oc.env:...}` by environment variables.

    Raises:
        ValueError: the text is not YAML, is nested too deep, or has aliases, which can expand to billions of values.
    """
    try:
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise ValueError("it has aliases")
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > MAX_DEPTH:  # the time of PyYAML grows with the square of the depth
                raise ValueError("nested too deep")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not valid YAML: {error}") from error
