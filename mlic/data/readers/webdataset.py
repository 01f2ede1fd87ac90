"""WebDataset tar shards (https://github.com/webdataset/webdataset): images, and labels under the same names."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlic.data.readers.common import labels_of_names
from mlic.data.readers.csv import read_csv
from mlic.data.readers.label_cells import check_separator, refuse_combinations, refuse_list, split
from mlic.data.readers.tar_shards import LABEL_MEMBERS, ShardPaths, read_shards
from mlic.data.table import LabelTable
from mlic.data.tar_images import TarImage
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

SAMPLE = "Expected images such as 000123.jpg, each with a 000123.json, .cls, .txt or .labels that holds class names."


def read_webdataset(
    images: ShardPaths,
    annotations: str | Path | None = None,
    *,
    label_member: str = "auto",
    label_key: str = "labels",
    separator: str = "|",
    classes: Sequence[str] | None = None,
    ignore_columns: Sequence[str] | None = None,
    on_bad_sample: str = "error",
) -> LabelTable:
    """Read labels from tar shards. Images are later read from the shards as well, without unpacking them.

    The members of a sample share their name up to the first dot: an image, and its labels in `.json`, `.cls`, `.txt`
    or `.labels`. Each shard is read once from start to end. An index of its content is kept in the cache folder and
    stays valid while size and modification time (or tag) of the shard are unchanged.

    Args:
        images: tar shards: a folder, file, pattern or address (`https://`, `s3://`, `gs://`, `hf://`), or several.
        annotations: CSV file as for `read_csv`, used instead of labels in the shards. Its file names are
            `<shard>/<name in the shard>`, or only the latter if it is unique.
        label_member: `json`, `cls`, `txt` or `labels`; `auto` takes the one that is present.
        label_key: key of a `.json` whose value is a list of class names, or of indices into `classes`.
        separator: text between class names in text members; line breaks separate them, too.
        classes: all class names, in the order of their indices; any other label is then an error.
        ignore_columns: columns of the CSV file that are not classes; see `read_csv`.
        on_bad_sample: `error`, or `drop` to leave out broken and incomplete samples.

    Returns:
        The label table; its file names are `<shard>/<name in the shard>`, its folder is that of the shards.

    Raises:
        InputError: shards, samples or labels cannot be used.
    """
    check_choice("data.reader.label_member", label_member, ("auto", *LABEL_MEMBERS))
    check_choice("data.reader.on_bad_sample", on_bad_sample, ("error", "drop"))
    separator = check_separator(separator)
    label_member = label_member if annotations is None else "none"
    root, found = read_shards(
        images, on_bad_sample=on_bad_sample, label_member=label_member, label_key=label_key
    )
    if not found:
        raise InputError(f"data.images: the tar shards contain no usable samples. {SAMPLE}")
    references = {name: image for name, (image, _) in found.items()}
    if annotations is not None:
        # read_csv requires an existing folder but does not use it here; the shards may be on a server
        options = {"separator": separator, "classes": classes, "ignore_columns": ignore_columns}
        table = read_csv(annotations, Path(annotations).parent, **options)
        names = _full_names(table.file_names, references, annotations)
        more = {"references": references, "parts": table.parts, "columns": table.columns}
        return LabelTable.build(root, names, table.labels, table.classes, **more)
    places = list(map(str, references.values()))
    names_of = [
        _class_names(labels, place, separator, classes)
        for place, (_, labels) in zip(places, found.values(), strict=True)
    ]
    matrix, known = labels_of_names(names_of, classes, places.__getitem__)
    if not known:
        raise InputError(f"data.images: no image in the tar shards has a label. {SAMPLE}")
    if classes is None:
        refuse_combinations(known, "data.images")
    logger.info("tar shards: %d images, %d classes", *matrix.shape)
    return LabelTable.build(root, list(found), matrix, known, references=references)


def _class_names(
    labels: str | list[str], place: str, separator: str, classes: Sequence[str] | None
) -> list[str]:
    """Return the class names of an image; with given `classes`, numbers are indices of these."""
    if isinstance(labels, str):
        refuse_list(labels, place, classes or ())
        labels = [name for line in labels.splitlines() for name in split(line, separator)]
    numbers = {str(number): name for number, name in enumerate(classes or ())}
    return [name if name in numbers.values() else numbers.get(name, name) for name in labels]


def _full_names(names: Iterable[str], images: Mapping[str, TarImage], annotations: str | Path) -> list[str]:
    """Return `<shard>/<name in the shard>` for names of this form, and for unique names in a shard."""
    times = Counter(image.name for image in images.values())
    full = {image.name: name for name, image in images.items() if times[image.name] == 1}
    full |= {name: name for name in images}
    if lost := [name for name in names if name not in full]:
        raise InputError(
            f"{annotations}: {len(lost)} file names are not in exactly one tar shard, such as {lost[0]}. Expected "
            f"names such as {next(iter(images))}."
        )
    return [full[name] for name in names]
