"""Image folders: metadata beside the images, in the form of Hugging Face, or one folder per class."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlic.data.images import image_files
from mlic.data.readers.common import (
    Paths,
    annotation_files,
    build_table,
    image_folders,
    labels_of_names,
    parse_json,
    part_named,
    parts_of_files,
    read_text,
    refuse_combinations,
    safe_file_names,
)
from mlic.data.readers.csv import read_csv
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

METADATA = ("metadata.csv", "metadata.jsonl")
LABEL_KEYS = ("labels", "label", "tags", "classes", "categories")
LAYOUT = (
    "Expected metadata.jsonl or metadata.csv in the folder or in folders of its parts, or images in folders of their "
    "classes (<class>/<image>, or <part>/<class>/<image> with parts such as train, validation and test)"
)


def read_imagefolder(
    images: Paths,
    annotations: Paths | None = None,
    *,
    label_key: str | None = None,
    separator: str | None = None,
    classes: Sequence[str] | None = None,
    same_image: str = "bytes",
) -> LabelTable:
    """Read metadata beside the images (https://huggingface.co/docs/datasets/image_dataset), or folders as classes.

    `metadata.jsonl` has an object such as `{"file_name": "cat.jpg", "labels": ["cat", "pet"]}` on each line, with names
    relative to its folder. `metadata.csv` is read by `read_csv`. Without metadata, each folder is a class; links and
    copies of one image in several folders give it several classes. Folders such as `train`, `validation` and `test`
    give the images their parts.

    Args:
        images: image folders.
        annotations: metadata files. Default: `metadata.jsonl` or `metadata.csv` in `images` and its folders.
        label_key: key of the labels in `metadata.jsonl`. Default: the only common one, such as `labels` or `tags`.
        separator: text between labels if they are one text. Default: a text is one label.
        classes: all class names, in the order of their indices if labels are numbers; any other label is then an error.
        same_image: identifies an image in several class folders: `bytes`, or `name` (relative to the class folder).

    Returns:
        The label table.

    Raises:
        InputError: the folder has neither metadata nor class folders, or metadata cannot be used.
    """
    check_choice("data.reader.same_image", same_image, ("bytes", "name"))
    folders = image_folders(images)
    files = (
        _metadata_files(folders) if annotations is None else annotation_files(annotations, "a metadata file")
    )
    if not files:
        return _read_class_folders(folders, classes, same_image)
    kinds = {file.suffix.lower() for file in files}
    if kinds == {".csv"}:
        reader: Any = read_csv
        return reader(files if len(files) > 1 else files[0], images, classes=classes)
    if kinds != {".jsonl"}:
        raise InputError(f"data.annotations: {', '.join(map(str, files))}. {LAYOUT}.")
    names: list[str] = []
    places: list[str] = []
    records: list[dict[str, Any]] = []
    parts: list[str] = []
    for file, part in zip(files, parts_of_files(files), strict=True):
        lines = [(number, line) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
        own_places = [f"{file}, line {number}" for number, _ in lines]
        own = [_record(line, place) for (_, line), place in zip(lines, own_places, strict=True)]
        prefix = next(
            (
                f"{file.parent.relative_to(folder).as_posix()}/"
                for folder in folders
                if file.is_relative_to(folder)
            ),
            "./",
        )
        found = safe_file_names([record.get("file_name") for record in own], own_places.__getitem__)
        names += [prefix.removeprefix("./") + name for name in found]
        places, records, parts = places + own_places, records + own, parts + [part] * len(own)
    source = ", ".join(map(str, files))
    key = _label_key(records, label_key, source)
    named = [
        _labels(record.get(key), separator, classes, place)
        for record, place in zip(records, places, strict=True)
    ]
    labels, found = labels_of_names(named, classes, source, places.__getitem__)
    if classes is None:
        refuse_combinations(found, source)
    others = {
        name for record in records for name, value in record.items() if isinstance(value, str | int | float)
    }
    columns = {
        name: [str(record.get(name, "")) for record in records]
        for name in sorted(others - {key, "file_name"})
    }
    return build_table(
        source, folders, names, labels, found, places.__getitem__, parts=parts, columns=columns
    )


def _metadata_files(folders: Sequence[Path]) -> list[Path]:
    patterns = [f"{start}{name}" for start in ("", "*/") for name in METADATA]
    return [file for folder in folders for pattern in patterns for file in sorted(folder.glob(pattern))]


def _record(line: str, place: str) -> dict[str, Any]:
    record = parse_json(line, place, "a JSON object on each line")
    if not isinstance(record, dict):
        raise InputError(f"{place}: expected a JSON object ({{...}}) on each line.")
    return record


def _label_key(records: Sequence[dict[str, Any]], key: str | None, source: str) -> str:
    keys = {name for record in records for name in record}
    found = [name for name in LABEL_KEYS if name in keys] if key is None else [key]
    if len(found) == 1 and found[0] in keys:
        return found[0]
    raise InputError(
        f"{source}: {'several keys' if len(found) > 1 else 'no key'} of labels. The keys are "
        f"{', '.join(sorted(keys))[:200]}; set one with data.reader.label_key.",
        key="data.reader.label_key",
    )


def _labels(value: Any, separator: str | None, classes: Sequence[str] | None, place: str) -> list[str]:
    """Return the class names of one image; numbers are indices into `classes`."""
    if isinstance(value, str) and separator:
        value = value.split(separator)
    names = []
    for label in value if isinstance(value, list) else [] if value is None else [value]:
        if type(label) is int and classes is not None and 0 <= label < len(classes):
            names.append(classes[label])
        elif isinstance(label, str):
            names.append(label.strip())
        else:
            raise InputError(
                f"{place}: the label {str(label)[:60]} is not a text. Numbers require the class names in their order: "
                "data.reader.classes=[...]."
            )
    return [name for name in names if name]


def _read_class_folders(
    folders: Sequence[Path], classes: Sequence[str] | None, same_image: str
) -> LabelTable:
    files = {name: folder / name for folder in folders for name in image_files(folder)}
    depths = {name.count("/") for name in files}
    starts_with_part = all(part_named(name.partition("/")[0]) for name in files)
    in_parts = depths == {2} and starts_with_part
    if not files or not (in_parts or (depths == {1} and not starts_with_part)):
        example = f" found '{next(iter(files))}'" if files else " no images"
        raise InputError(f"{folders[0]}:{example}. {LAYOUT}.", key="data.images")
    split = {name: name.rsplit("/", 2 if in_parts else 1) for name in files}
    identities = _by_bytes(list(files.values())) if same_image == "bytes" else {}
    first: dict[tuple[str, object], str] = {}
    labels: dict[str, set[str]] = {}
    for name, path in files.items():
        *_, class_name, last = split[name]
        part = name.partition("/")[0] if in_parts else ""
        kept = first.setdefault((part, identities.get(path, last)), name)
        labels.setdefault(kept, set()).add(class_name)
    names, source = list(labels), str(folders[0])
    logger.info(
        "%s: %d of %d files are links to or copies of others", source, len(files) - len(names), len(files)
    )
    matrix, found = labels_of_names(list(labels.values()), classes, source, names.__getitem__)
    parts = [part_named(name.partition("/")[0]) if in_parts else "" for name in names]
    return build_table(
        source,
        folders,
        safe_file_names(names, names.__getitem__),
        matrix,
        found,
        names.__getitem__,
        parts=parts if len(set(parts)) > 1 else None,
    )


def _by_bytes(paths: Sequence[Path]) -> dict[Path, object]:
    """Return equal values for links to, and copies of, the same file; only files of equal size are hashed."""
    real = {path: path.resolve() for path in paths}
    sizes = {path: path.stat().st_size for path in set(real.values()) if path.is_file()}
    times = Counter(sizes.values())
    identities: dict[Path, object] = {}
    for path, size in sizes.items():
        identities[path] = path
        if times[size] > 1:
            with path.open("rb") as stream:
                identities[path] = hashlib.file_digest(stream, "sha256").digest()
    return {path: identities.get(real[path], path) for path in paths}
