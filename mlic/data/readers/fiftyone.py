"""Multi-label image classification of FiftyOne (labels.json of FiftyOneImageClassificationDataset)."""

from pathlib import Path
from typing import Any

from mlic.data.images import image_suffixes
from mlic.data.readers.common import build_table, labels_of_names, parse_json
from mlic.data.readers.folders import Paths, annotation_files, image_folders
from mlic.data.table import LabelTable
from mlic.errors import InputError

EXPECTED = "labels.json of a FiftyOne image classification dataset"


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
    files, folders = annotation_files(annotations, EXPECTED), image_folders(images)
    names = _names_by_stem(folders)
    references: list[str] = []
    labels: list[set[str]] = []
    for file in files:
        content = parse_json(file.read_bytes(), str(file), EXPECTED)
        targets = content.get("labels") if isinstance(content, dict) else None
        if not isinstance(targets, dict):
            raise InputError(f"{file}: no object 'labels'. Expected {EXPECTED}.")
        known = content.get("classes")
        for key, target in targets.items():
            place = f"{file}, '{key}'"
            if len(names.get(key, ())) != 1:
                number = len(names.get(key, ()))
                raise InputError(f"{place}: {number} images in data.images have this name; expected one.")
            references.append(names[key][0])
            entries = target if isinstance(target, list) else [] if target is None else [target]
            labels.append({_label(entry, known, predictions, place) for entry in entries})
    source = ", ".join(map(str, files))
    matrix, found = labels_of_names(labels, classes, source, lambda row: f"{source}, '{references[row]}'")
    return build_table(
        source, folders, references, matrix, found, lambda row: f"{source}, '{references[row]}'"
    )


def _names_by_stem(folders: Any) -> dict[str, list[str]]:
    names: dict[str, set[str]] = {}
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in image_suffixes() and path.is_file():
                name = path.relative_to(folder)
                names.setdefault(name.with_suffix("").as_posix(), set()).add(name.as_posix())
    return {stem: sorted(found) for stem, found in names.items()}


def _label(entry: Any, known: Any, predictions: bool, place: str) -> str:
    """Return the name of a label."""
    if isinstance(entry, dict):
        if entry.get("confidence") is not None and not predictions:
            raise InputError(
                f"{place}: labels with a confidence are predictions of a model, not annotations. Read them with "
                "data.reader.predictions=true.",
                key="data.reader.predictions",
            )
        entry = entry.get("label")
    if isinstance(entry, int) and not isinstance(entry, bool) and isinstance(known, list):
        entry = known[entry] if 0 <= entry < len(known) else None
    if not isinstance(entry, str):
        raise InputError(
            f"{place}: expected a class name, or its number in 'classes', got {str(entry)[:60]}."
        )
    return entry
