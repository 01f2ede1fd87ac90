"""What a report relies on in the files of a run folder; what is otherwise is left out, with a note."""

import math
from collections.abc import Mapping
from typing import Any

import yaml

ANY = "*"  # all keys
NUMBER, TEXT, LIST, NUMBERS = "a number", "text", "a list", "a number or a list of numbers"
COUNT, SHAPE = "a count", "a list of counts"
NEVER_UNKNOWN = (LIST, COUNT, SHAPE)
PER_CLASS, COUNTS = {ANY: NUMBER}, {ANY: COUNT}
METRICS = {"per_class": {ANY: {ANY: NUMBER}}, "undefined": {ANY: LIST}, ANY: NUMBER}

Form = str | Mapping[str, Any]
FORMS: dict[str, Mapping[str, Form]] = {
    "status.json": {"state": TEXT, "seconds": {ANY: NUMBER}, "error": {}, "started": TEXT},
    "model.json": {
        "name": TEXT, "weights_tag": TEXT, "image_size": NUMBERS, "backbone_parameters": NUMBER,
        "head_parameters": NUMBER, "feature_shape": SHAPE, "pool": TEXT, "precision": TEXT,
    },
    "dataset.json": {
        "classes": LIST, "images": {ANY: NUMBER}, "counts": {ANY: COUNTS},
        "curation": {"dropped_classes": COUNTS}, "split": {"hash": TEXT}, "source": {"images": TEXT},
    },
    "metrics.json": {ANY: METRICS},
    "thresholds.json": {"per_class": PER_CLASS},
}  # fmt: skip
LARGEST_COUNT = 10**12  # beyond are numbers that arrays and axes cannot hold
MAX_OVERRIDES = 1000
MAX_DEPTH = 50
_OPENING = (
    yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken,
)  # fmt: skip
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


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
