"""Open Images: one row per image and label (https://storage.googleapis.com/openimages/web/download_v7.html)."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.readers.common import build_table, safe_file_names
from mlic.data.readers.folders import Paths, annotation_files, image_folders, parts_of_files, subfolder_of
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)

COLUMNS = ["ImageID", "LabelName", "Confidence"]
MACHINE = "machine"


def read_openimages(
    annotations: Paths,
    images: Paths,
    *,
    class_descriptions: str | Path | None = None,
    confidence: float | None = None,
    extension: str = ".jpg",
    classes: Sequence[str] | None = None,
) -> LabelTable:
    """Read image-level labels or boxes of Open Images.

    A label with confidence 1 is present, and with confidence 0 it is verified to be absent. All other labels of an
    image are unknown, because nobody has looked for them. Where people disagree, the label is unknown; what people say
    takes precedence over machine labels.

    Args:
        annotations: CSV files with the columns ImageID, LabelName and Confidence, such as
            `train-annotations-human-imagelabels.csv`. Several files of different parts give the images their parts.
        images: image folders, or the parent of the folders `train`, `validation` and `test`.
        class_descriptions: CSV file that maps LabelName to class names. Default: all `*class-descriptions*.csv` beside
            the annotations; without any, classes keep their ids.
        confidence: machine labels with at least this confidence are present, all others unknown.
        extension: appended to ImageID.
        classes: classes to read. Default: all that occur.

    Returns:
        The label table.

    Raises:
        InputError: a file is missing or malformed, machine labels are given without `confidence`, or an image is in
            two parts.
    """
    files = annotation_files(annotations, "CSV files of Open Images")
    folders, source = image_folders(images), ", ".join(map(str, files))
    tables: list[pd.DataFrame] = []
    part_of: dict[str, str] = {}
    for file, part in zip(files, parts_of_files(files), strict=True):
        table = _read_file(file, confidence)
        numbers, ids = pd.factorize(table["ImageID"])
        names = safe_file_names(list(ids), lambda _, file=file: str(file), extension)
        prefix = subfolder_of(file, folders, names)
        full = np.array([prefix + name for name in names], dtype=object)
        tables.append(table.assign(name=full[numbers]))
        for name in full:
            if part_of.setdefault(name, part) != part:
                raise InputError(f"{file}: '{name}' is also in the part '{part_of[name]}'.")
    rows = pd.concat(tables, ignore_index=True)
    ids = list(rows["LabelName"].unique())
    names_of = _class_names(files[0].parent, class_descriptions, ids)
    found = sorted(names_of.values()) if classes is None else list(classes)
    if absent := sorted(set(found) - set(names_of.values())):
        raise InputError(f"{source}: no image has the class '{absent[0]}' of data.reader.classes.")
    columns = pd.Index(found).get_indexer(pd.Index(rows["LabelName"].map(names_of.get)))
    image_rows = pd.Index(list(part_of)).get_indexer(pd.Index(rows["name"]))
    labels = np.full((len(part_of), len(found)), UNKNOWN, dtype=np.int8)
    of_people = (rows["Source"] != MACHINE).to_numpy()
    for chosen in (~of_people, of_people):  # what people say is written over machine labels
        used = chosen & (columns >= 0)
        _set_labels(labels, image_rows[used], columns[used], rows["label"].to_numpy()[used])
    names, parts = list(part_of), list(part_of.values())
    return build_table(source, folders, names, labels, found, names.__getitem__, parts=parts)


def _set_labels(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
    """Write 0 and 1 to labels (N, C); a cell that is given both becomes unknown."""
    seen = np.zeros((2, *labels.shape), dtype=bool)
    for value in (0, 1):
        seen[value, rows[values == value], columns[values == value]] = True
        labels[seen[value]] = value
    both = seen.all(axis=0)
    labels[both] = UNKNOWN
    if both.any():
        logger.warning("%d labels are unknown, because the annotations contradict each other", both.sum())


def _read_file(file: Path, confidence: float | None) -> pd.DataFrame:
    """Return the columns ImageID, LabelName, Source, and label (1, 0 or unknown) of a file."""
    table = _read_csv(file, usecols=lambda name: name in (*COLUMNS, "Source"))
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise InputError(
            f"{file}, line 1: the column {missing[0]} is missing. Expected Open Images' {', '.join(COLUMNS)}."
        )
    values = np.asarray(pd.to_numeric(table["Confidence"], errors="coerce"), dtype=float)
    if (wrong := ~((values >= 0) & (values <= 1))).any():
        text = table["Confidence"].iloc[wrong.argmax()]
        raise InputError(f"{file}: Confidence is '{text}'; expected a number from 0 to 1.")
    if confidence is None and ((values > 0) & (values < 1)).any():
        raise InputError(
            f"{file}: Confidence has values between 0 and 1, so these are machine labels. Set the least confidence of "
            "a label with data.reader.confidence=0.5.",
            key="data.reader.confidence",
        )
    label = np.where(values == 0, 0, np.where(values >= (confidence or 1), 1, UNKNOWN))
    return table.assign(Source=table.get("Source", ""), label=label)


def _read_csv(file: Path, **options: Any) -> pd.DataFrame:
    try:
        with file.open("rb") as stream:  # pandas would take some names for addresses or compressed files
            return pd.read_csv(stream, dtype=str, index_col=False, keep_default_na=False, **options)
    except ValueError as error:  # errors of pandas are ValueErrors
        raise InputError(f"{file}: not a CSV file of Open Images in UTF-8 ({error}).") from None


def _class_names(folder: Path, descriptions: str | Path | None, ids: Sequence[str]) -> dict[str, str]:
    """Map the ids to class names; a name that several ids have is extended by the id."""
    files = sorted(folder.glob("*class-descriptions*.csv"))
    if descriptions is not None:
        files = annotation_files(descriptions, "a CSV file of class names")
    tables = [_read_csv(file, header=None, usecols=[0, 1]) for file in files]
    names = {key: name.strip() for table in tables for key, name in zip(table[0], table[1], strict=True)}
    if not files:
        logger.warning("%s: no *class-descriptions*.csv; classes keep their ids", folder)
        names = dict(zip(ids, ids, strict=True))
    if missing := [key for key in ids if key not in names]:
        raise InputError(
            f"{files[0]}: no name for {len(missing)} of {len(ids)} labels, such as {missing[0]}."
        )
    times = Counter(names[key].casefold() for key in ids)
    return {key: names[key] if times[names[key].casefold()] == 1 else f"{names[key]} ({key})" for key in ids}
