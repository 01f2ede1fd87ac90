"""Image folders: metadata beside the images, in the form of Hugging Face, or one folder per class."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from mlic.data.images import image_files
from mlic.data.readers.common import build_table, labels_of_names, safe_file_names
from mlic.data.readers.csv import read_csv
from mlic.data.readers.folders import Paths, image_folders, part_named
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

METADATA = ("metadata.csv", "metadata.jsonl", "*/metadata.csv", "*/metadata.jsonl")


def read_imagefolder(
    images: Paths,
    annotations: Paths | None = None,
    *,
    same_image: str = "bytes",
    classes: Sequence[str] | None = None,
    label_columns: Sequence[str] | None = None,
    separator: str | None = None,
    other_columns: Sequence[str] = (),
) -> LabelTable:
    """Read metadata beside the images (https://huggingface.co/docs/datasets/image_dataset), or folders as classes.

    `metadata.jsonl` has an object such as `{"file_name": "cat.jpg", "labels": ["cat", "pet"]}` on each line, with names
    relative to its folder; it and `metadata.csv` are read by `read_csv`. Without metadata, each folder is a class;
    links and copies of one image in several folders give it several classes. Folders such as `train`, `validation` and
    `test` give the images their parts.

    Args:
        images: image folders.
        annotations: metadata files. Default: those in `images` and its folders.
        same_image: identifies an image in several class folders: `bytes`, or `name` (relative to the class folder).
        classes: all class names; any other label is then an error. Default: those that occur.
        label_columns: see `read_csv`.
        separator: see `read_csv`.
        other_columns: see `read_csv`.

    Returns:
        The label table.

    Raises:
        InputError: the folder has neither metadata nor class folders, or metadata cannot be used.
    """
    check_choice("data.reader.same_image", same_image, ("bytes", "name"))
    folders = image_folders(images)
    found = [file for folder in folders for pattern in METADATA for file in sorted(folder.glob(pattern))]
    if annotations is None and not found:
        return _read_class_folders(folders, classes, same_image)
    options = {"label_columns": label_columns, "separator": separator, "other_columns": other_columns}
    return read_csv(found if annotations is None else annotations, images, classes=classes, **options)


def _read_class_folders(
    folders: Sequence[Path], classes: Sequence[str] | None, same_image: str
) -> LabelTable:
    paths = {name: folder / name for folder in folders for name in image_files(folder)}
    split = {name: name.split("/") for name in paths}
    in_parts = all(part_named(first) for first, *_ in split.values())
    if {len(names) for names in split.values()} != {3 if in_parts else 2}:
        raise InputError(
            f"{folders[0]}: found {next(iter(paths), 'no images')}. Expected metadata.jsonl or metadata.csv in the "
            "folder or in folders of its parts, or images in folders of their classes (<class>/<image>, or "
            "<part>/<class>/<image> with parts such as train, validation and test).",
            key="data.images",
        )
    identity_of = (
        _digests(paths) if same_image == "bytes" else {name: names[-1] for name, names in split.items()}
    )
    first_of: dict[tuple[str, str], str] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    part_of = {name: part_named(names[0]) if in_parts else "" for name, names in split.items()}
    for name, identity in identity_of.items():
        labels[first_of.setdefault((part_of[name], identity), name)].add(split[name][-2])
    names = list(labels)
    logger.info("%s: %d files are links to or copies of others", folders[0], len(paths) - len(names))
    matrix, found = labels_of_names(list(labels.values()), classes, names.__getitem__)
    parts = [part_of[name] for name in names] if len(set(part_of.values())) > 1 else None
    place, safe = names.__getitem__, safe_file_names(names, names.__getitem__)
    return build_table(folders[0], folders, safe, matrix, found, place, parts=parts)


def _digests(paths: dict[str, Path]) -> dict[str, str]:
    """Return equal texts for links to, and copies of, the same file; only files of equal size are read."""
    sizes = {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
    times = Counter(sizes.values())
    digests = {name: f"name {name}" for name in paths}
    for name in (name for name, size in sizes.items() if times[size] > 1):
        with paths[name].open("rb") as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests
