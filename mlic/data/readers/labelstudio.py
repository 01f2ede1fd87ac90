"""JSON and JSON-MIN exports of Label Studio (https://labelstud.io/guide/export)."""

import logging
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mlic.data.images import image_suffixes
from mlic.data.readers import common
from mlic.data.readers.folders import Paths, annotation_files, image_folders
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

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
    files, folders = annotation_files(annotations), image_folders(images)
    labels: dict[str, set[str]] = {}  # by the name or address of the image in the export
    for file in files:
        tasks, place = common.parse_json(file.read_bytes(), str(file)), str(file)
        try:
            used = _controls_in_text(tasks, image_key) if controls is None else controls
            for row, task in enumerate(tasks):
                place = f"{file}[{row}]"
                image = _image(task, image_key)
                for found in _annotations(task, used, controls, predictions):
                    if labels.setdefault(image, found) != found and annotators == "error":
                        raise ValueError(
                            f"annotations of '{image}' differ; data.reader.annotators=union uses all"
                        )
                    labels[image] = labels[image] | found
        except common.MALFORMED as error:
            raise common.malformed(place, error, "a JSON or JSON-MIN export of Label Studio") from None
        logger.info("%s: %d tasks, %d images annotated", file, len(tasks), len(labels))
    images_of: dict[str, str] = {}
    for image in labels:
        name = _local_name(image, folders)
        if images_of.setdefault(name, image) != image:
            raise InputError(
                f"{files[0]}: '{images_of[name]}' and '{image}' would both be '{name}' in data.images."
            )
    place = list(images_of).__getitem__
    matrix, found = common.labels_of_names(list(labels.values()), classes, place)
    return common.build_table(", ".join(map(str, files)), folders, list(images_of), matrix, found, place)


def _image(task: dict[str, Any], key: str | None) -> str:
    """Return the name of the image of a task."""
    texts = {name: text for name, text in task.get("data", task).items() if isinstance(text, str)}
    keys = [name for name, text in texts.items() if (_is_image(text) if key is None else name == key)]
    if len(keys) == 1:
        return texts[keys[0]]
    raise ValueError(
        f"{'more than one' if keys else 'no'} key names an image file. Texts are under the keys "
        f"{', '.join(texts)[:200] or 'none'}; set one with data.reader.image_key"
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


def _local_name(reference: str, folders: Sequence[Path]) -> str:
    parts = common.safe_file_names([_path(reference)], [reference].__getitem__)[0].split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    ends.append(UPLOAD_PREFIX.sub("", parts[-1]))
    return next((end for end in ends if any(os.path.isfile(folder / end) for folder in folders)), parts[-1])


def _annotations(
    task: dict[str, Any], texts: Collection[str], controls: Sequence[str] | None, predictions: bool
) -> list[set[str]]:
    """Return the class names of each annotation of a task that is not cancelled."""
    annotations = task.get("annotations", task.get("completions"))  # the older name
    if not annotations and "predictions" in task:
        annotations = task["predictions"] if predictions else []
    if annotations is None:  # JSON-MIN: one object per annotation, with controls as keys
        values = [value for key, value in task.items() if controls is None or key in controls]
        chosen = [{"choices": [task[key]]} for key in texts if isinstance(task.get(key), str)]
        return [_class_names(values + chosen)]
    found = []
    for one in common.list_of({"annotations": annotations}, "annotations"):
        if not one.get("was_cancelled"):
            used = (
                item
                for item in common.list_of(one, "result")
                if controls is None or item.get("from_name") in controls
            )
            found.append(_class_names([item.get("value") for item in used]))
    return found


def _class_names(values: Sequence[Any]) -> set[str]:
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
        raise TypeError(f"the class {str(wrong[0])[:60]} is not a text")
    return set(names)


def _controls_in_text(tasks: Sequence[dict[str, Any]], image_key: str | None) -> set[str]:
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
        raise ValueError(
            f"the texts under {', '.join(doubtful)[:200]} may be choices. List the keys that are, such as "
            f"data.reader.controls=[{','.join(sorted(sure) or doubtful[:1])}]"
        )
    return sure
