"""Multi-label image classification of FiftyOne (labels.json of FiftyOneImageClassificationDataset)."""

from collections import defaultdict
from typing import Any

from mlic.data.images import image_files, without_image_extension
from mlic.data.readers.common import MALFORMED, build_table, labels_of_names, list_of, malformed, parse_json
from mlic.data.readers.folders import Paths, annotation_files, image_folders
from mlic.data.table import LabelTable


def read_fiftyone(
    annotations: Paths, images: Paths, *, predictions: bool = False, classes: list[str] | None = None
) -> LabelTable:
    """Read labels by image, `{"classes": [...], "labels": {"<name without extension>": ["cat", "dog"]}}`.

    A label is a name, a number in `classes`, or `{"label": ..., "confidence": ...}`; an image has one or a list.

    Args:
        annotations: JSON files.
        images: image folders (`data/` of the dataset).
        predictions: read labels with a confidence, which are predictions of a model, as labels.
        classes: all class names; any other label is then an error. Default: the names that occur.

    Raises:
        InputError: a file is missing or malformed, an image is missing, or labels are predictions.
    """
    files, folders = annotation_files(annotations), image_folders(images)
    files_of: dict[str, list[str]] = defaultdict(list)
    for name in (name for folder in folders for name in image_files(folder)):
        files_of[without_image_extension(name)].append(name)
    names: list[str] = []
    labels: list[set[str]] = []
    for file in files:
        content, place = parse_json(file.read_bytes(), str(file)), str(file)
        try:
            for key, target in content["labels"].items():
                place = f"{file}, '{key}'"
                if len(files_of[key]) != 1:
                    raise ValueError(f"{len(files_of[key])} images in data.images have this name")
                entries = target if isinstance(target, list) else [] if target is None else [target]
                names.append(files_of[key][0])
                labels.append({_class_of(entry, content, predictions) for entry in entries})
        except MALFORMED as error:
            expected = "labels.json of FiftyOne: class names or numbers in 'classes', for one image each"
            raise malformed(place, error, expected) from None
    source = ", ".join(map(str, files))
    matrix, found = labels_of_names(labels, classes, names.__getitem__)
    return build_table(source, folders, names, matrix, found, names.__getitem__)


def _class_of(entry: Any, content: Any, predictions: bool) -> str:
    if isinstance(entry, dict):
        if entry.get("confidence") is not None and not predictions:
            raise ValueError(
                "labels with a confidence are predictions of a model; read them with data.reader.predictions=true"
            )
        entry = entry["label"]
    if type(entry) is int and entry >= 0:
        entry = list_of(content, "classes")[entry]
    if not isinstance(entry, str):
        raise TypeError(f"a label is {entry!r:.60}")
    return entry
