"""Image folders: metadata beside the images, in the form of Hugging Face, or one folder per class."""

import hashlib
import logging
from collections import Counter
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
LAYOUT = (
    "Expected metadata.jsonl or metadata.csv in the folder or in folders of its parts, or images in folders of their "
    "classes (<class>/<image>, or <part>/<class>/<image> with parts such as train, validation and test)"
)


def read_imagefolder(
    images: Paths,
    annotations: Paths | None = None,
    *,
    label_columns: Sequence[str] | None = None,
    separator: str | None = None,
    classes: Sequence[str] | None = None,
    same_image: str = "bytes",
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
        label_columns: see `read_csv`.
        separator: see `read_csv`.
        classes: all class names; any other label is then an error. Default: those that occur.
        same_image: identifies an image in several class folders: `bytes`, or `name` (relative to the class folder).
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
    return read_csv(
        found if annotations is None else annotations,
        images,
        label_columns=label_columns,
        separator=separator,
        classes=classes,
        other_columns=other_columns,
    )


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
