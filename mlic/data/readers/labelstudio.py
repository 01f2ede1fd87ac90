"""JSON and JSON-MIN exports of Label Studio (https://labelstud.io/guide/export)."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mlic.data.images import image_suffixes
from mlic.data.readers.common import build_table, labels_of_names, objects, parse_json, safe_file_names
from mlic.data.readers.folders import Paths, annotation_files, image_folders
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

EXPECTED = "a JSON or JSON-MIN export of Label Studio"
NOT_CONTROLS = ("created_at", "updated_at")  # texts in JSON-MIN that Label Studio writes itself
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # added to the names of uploaded files


def read_labelstudio(
    annotations: Paths,
    images: Paths,
    *,
    image_key: str | None = None,
    controls: Sequence[str] | None = None,
    annotators: str = "error",
    predictions: bool = False,
    classes: Sequence[str] | None = None,
) -> LabelTable:
    """Read the choices, and the classes of boxes and masks, from exports of Label Studio.

    Names of images such as `/data/upload/1/0a1b2c3d-cat.jpg`, `/data/local-files/?d=photos/cat.jpg` or
    `s3://bucket/photos/cat.jpg` are not opened: the longest end that is a file in `images` is used, such as
    `photos/cat.jpg` or `cat.jpg`; also without the prefix of uploaded files.

    Tasks without an annotation, or with cancelled ones only, are left out. An annotation without a choice is an image
    without labels.

    Args:
        annotations: exports; a file, a pattern, or a list of them.
        images: image folders.
        image_key: key of the image in the data of a task. Default: the only key whose values name image files.
        controls: names (`from_name`) of the choices, boxes and masks to read. Default: all; JSON-MIN writes a single
            choice like any other text, so that other texts in it require this setting.
        predictions: read the predictions of a model as labels, for tasks without an annotation.
        annotators: `error` or `union` if the annotations of an image differ.
        classes: all class names; any other label is then an error. Default: the names that occur.

    Returns:
        The label table.

    Raises:
        InputError: a file is missing or malformed, annotations of an image differ, or two images of the export have the
            same name in `images`.
    """
    check_choice("data.reader.annotators", annotators, ("error", "union"))
    files, folders = annotation_files(annotations, EXPECTED), image_folders(images)
    places: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    differ: list[str] = []
    for file in files:
        tasks = objects(parse_json(file.read_bytes(), str(file), EXPECTED), str(file), EXPECTED)
        texts = _choices_in_text(file, tasks, image_key) if controls is None else set(controls)
        for row, task in enumerate(tasks):
            place = f"{file}[{row}]"
            image = _image(task, image_key, place)
            for found in _annotations(task, texts, controls, place, predictions):
                if labels.setdefault(image, found) != found:
                    differ.append(image)
                    labels[image] = labels[image] | found
                places.setdefault(image, place)
        logger.info("%s: %d tasks, %d images annotated", file, len(tasks), len(labels))
    if differ and annotators == "error":
        raise InputError(
            f"{places[differ[0]]}: {len(set(differ))} images have annotations that differ, such as '{differ[0]}'. Set "
            "data.reader.annotators=union to use all their labels.",
            key="data.reader.annotators",
        )
    references, source = list(labels), ", ".join(map(str, files))
    matrix, found = labels_of_names(
        list(labels.values()), classes, source, lambda row: places[references[row]]
    )
    names: dict[str, str] = {}
    for image in references:
        name = _local_name(image, folders, places[image])
        if names.setdefault(name, image) != image:
            raise InputError(
                f"{places[image]}: '{names[name]}' and '{image}' would both be '{name}' in data.images."
            )
    return build_table(source, folders, list(names), matrix, found, lambda row: places[references[row]])


def _image(task: dict[str, Any], key: str | None, place: str) -> str:
    """Return the name of the image of a task."""
    data = task.get("data", task)
    data = (
        {name: value for name, value in data.items() if isinstance(value, str)}
        if isinstance(data, dict)
        else {}
    )
    keys = [name for name, value in data.items() if (_is_image(value) if key is None else name == key)]
    if len(keys) == 1:
        return data[keys[0]]
    raise InputError(
        f"{place}: {'more than one' if keys else 'no'} key names an image file. Texts are under the keys "
        f"{', '.join(data)[:200] or 'none'}; set one with data.reader.image_key."
    )


def _path(reference: str) -> str:
    """Return the path in a name or address, without server and query."""
    parts = urlsplit(reference)
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=photos/cat.jpg
    return (local[0] if local else unquote(parts.path)).replace("\\", "/").lstrip("/")


def _is_image(reference: str) -> bool:
    try:
        return Path(_path(reference)).suffix.lower() in image_suffixes()
    except ValueError:  # not a valid address
        return False


def _local_name(reference: str, folders: Sequence[Path], place: str) -> str:
    parts = safe_file_names([_path(reference)], lambda row: place)[0].split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    ends.append(UPLOAD_PREFIX.sub("", parts[-1]))
    there = (end for end in ends if any(os.path.isfile(folder / end) for folder in folders))
    return next(there, parts[-1])


def _annotations(
    task: dict[str, Any], texts: set[str], controls: Sequence[str] | None, place: str, predictions: bool
) -> list[set[str]]:
    """Return the class names of each annotation of a task that is not cancelled."""
    annotations = task.get("annotations", task.get("completions"))  # the older name
    if predictions and not annotations:
        annotations = task.get("predictions", annotations)
    elif annotations is None and "predictions" in task:
        return []
    if annotations is None:  # JSON-MIN: one object per annotation, with controls as keys
        values = [value for key, value in task.items() if controls is None or key in controls]
        chosen = [{"choices": [task[key]]} for key in texts if isinstance(task.get(key), str)]
        return [_classes(values + chosen, place)]
    found = []
    for annotation in objects(annotations, f"{place}, annotations", EXPECTED):
        if not annotation.get("was_cancelled"):
            results = objects(annotation.get("result"), f"{place}, result", EXPECTED)
            used = [item for item in results if controls is None or item.get("from_name") in controls]
            found.append(_classes([item.get("value") for item in used], place))
    return found


def _classes(values: Sequence[Any], place: str) -> set[str]:
    """Return the class names in values such as {"choices": [...]} or [{"rectanglelabels": [...]}]."""
    names: list[Any] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            for kind, classes in item.items() if isinstance(item, dict) else ():
                entries = classes if isinstance(classes, list) else [classes]
                if kind == "taxonomy":  # paths in a tree; the class is the last part
                    names += [path[-1] if isinstance(path, list) and path else path for path in entries]
                elif kind == "choices" or kind.endswith("labels"):
                    names += entries
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputError(f"{place}: the class {str(wrong[0])[:60]} is not a text.")
    return set(names)


def _choices_in_text(file: Path, tasks: Sequence[dict[str, Any]], image_key: str | None) -> set[str]:
    """Return the keys of JSON-MIN that hold choices: one choice is written as a text, several as an object."""
    items = [
        (key, value)
        for task in tasks
        if not {"annotations", "completions", "predictions"} & task.keys()
        for key, value in task.items()
    ]
    sure = {key for key, value in items if isinstance(value, dict) and "choices" in value}
    texts = {key for key, value in items if isinstance(value, str) and not _is_image(value)}
    if doubtful := sorted(texts - sure - {image_key, *NOT_CONTROLS}):
        raise InputError(
            f"{file}: the texts under {', '.join(doubtful)[:200]} may be choices. List the keys that are, such as "
            f"data.reader.controls=[{','.join(sorted(sure) or doubtful[:1])}].",
            key="data.reader.controls",
        )
    return sure
