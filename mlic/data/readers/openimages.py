"""Open Images: one row per image and label (https://storage.googleapis.com/openimages/web/download_v7.html)."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.readers.common import build_table, names_in_folders
from mlic.data.readers.folders import Paths, annotation_files, image_folders, parts_of_files
from mlic.data.table import UNKNOWN, LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)

COLUMNS = ["ImageID", "LabelName", "Confidence"]


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
    files, folders = annotation_files(annotations), image_folders(images)
    tables = []
    for file, part in zip(files, parts_of_files(files), strict=True):
        table = _read_file(file, confidence)
        numbers, ids = pd.factorize(table["ImageID"])
        names = names_in_folders(
            [file], np.zeros(len(ids)), folders, list(ids), lambda _, file=file: str(file), extension
        )
        tables.append(table.assign(name=np.array(names, dtype=object)[numbers], part=part))
    table = pd.concat(tables, ignore_index=True)
    parts = table.drop_duplicates(["name", "part"])
    if twice := parts.loc[parts["name"].duplicated(), "name"].tolist():
        raise InputError(f"{files[0]} and others: '{twice[0]}' is in two parts.")
    class_of = _class_names(files[0].parent, class_descriptions, list(table["LabelName"].unique()))
    found = sorted(class_of.values()) if classes is None else list(classes)
    if absent := sorted(set(found) - set(class_of.values())):
        raise InputError(f"{files[0]}: no image has the class '{absent[0]}' of data.reader.classes.")
    table["row"], names = pd.factorize(table["name"])
    table["column"] = pd.Index(found).get_indexer([class_of[key] for key in table["LabelName"]])
    labels = np.full((len(names), len(found)), UNKNOWN, dtype=np.int8)
    # what people say comes first in each cell
    known = table[(table["column"] >= 0) & (table["label"] != UNKNOWN)].groupby(["row", "column", "machine"])[
        "label"
    ]
    cells = known.agg(["min", "max"]).reset_index().drop_duplicates(["row", "column"])
    agree = np.asarray(cells["min"] == cells["max"])
    labels[cells["row"], cells["column"]] = np.where(agree, cells["min"], UNKNOWN)
    if not agree.all():
        logger.warning("%d labels are unknown, because the annotations contradict each other", (~agree).sum())
    source, place = ", ".join(map(str, files)), list(names).__getitem__
    return build_table(source, folders, list(names), labels, found, place, parts=parts["part"].tolist())


def _read_file(file: Path, confidence: float | None) -> pd.DataFrame:
    """Return the columns ImageID, LabelName, machine, and label (1, 0 or unknown) of a file."""
    table = _read_csv(file, usecols=lambda name: name in (*COLUMNS, "Source"))
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise InputError(f"{file}, line 1: the column {missing[0]} of Open Images is missing.")
    values = np.asarray(pd.to_numeric(table["Confidence"], errors="coerce"), dtype=float)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        text = table["Confidence"].iloc[wrong.argmax()]
        raise InputError(f"{file}: Confidence is '{text}'; expected a number from 0 to 1.")
    if confidence is None and ((values > 0) & (values < 1)).any():
        raise InputError(
            f"{file}: Confidence has values between 0 and 1, so these are machine labels. Set the least confidence of "
            "a label with data.reader.confidence=0.5.",
            key="data.reader.confidence",
        )
    label = np.where(values == 0, 0, np.where(values >= (confidence or 1), 1, UNKNOWN))
    return table.assign(machine=table.get("Source", "") == "machine", label=label)


def _read_csv(file: Path, **options: Any) -> pd.DataFrame:
    try:
        with file.open("rb") as stream:  # pandas would take some names for addresses or compressed files
            return pd.read_csv(stream, dtype=object, index_col=False, keep_default_na=False, **options)
    except ValueError as error:  # errors of pandas are ValueErrors
        raise InputError(f"{file}: not a CSV file of Open Images in UTF-8 ({error}).") from None


def _class_names(folder: Path, descriptions: str | Path | None, ids: Sequence[str]) -> dict[str, str]:
    """Map the ids to class names; a name that several ids have is extended by the id."""
    files = sorted(folder.glob("*class-descriptions*.csv"))
    if descriptions is not None:
        files = annotation_files(descriptions)
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
