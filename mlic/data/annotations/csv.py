"""CSV files of labels, one row an image, in two forms."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from mlic.data.annotations.common import (
    column_of,
    existing_file,
    image_folder,
    label_matrix,
    merge_repeated,
    safe_file_names,
)
from mlic.data.table import NAMES_SHOWN, LabelTable, check_class_names
from mlic.errors import InputError

logger = logging.getLogger(__name__)

FORMS = "'file_name,labels' or 'file_name' and then one column of 0 and 1 for each class"
BITS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def read_csv(
    annotations: str | Path, images: str | Path, *, separator: str = "|", classes: Sequence[str] | None = None
) -> LabelTable:
    """Read labels from a comma-separated file with a header, UTF-8.

    The header tells the form: `file_name,labels`, with the names of an image's classes joined by `separator`
        (nothing
    for an image without labels), or `file_name` and one column of 0 and 1 for each class.

    Args:
        annotations: the CSV file.
        images: folder that the file names are relative to.
        separator: between the labels of an image, in the first form.
        classes: all class names; others are then an error. By default those that occur.

    Returns:
        The table of labels.

    Raises:
        InputError: the file is missing or malformed, has a label outside `classes`, lists an image with two
            sets of labels, or names an image outside the folder.
    """
    file, folder = existing_file(annotations, "a CSV file"), image_folder(images)
    if not separator:
        raise InputError("data.reader.separator is empty; give what stands between two labels, such as '|'.")
    header, rows, lines = _rows(file)
    names = safe_file_names([row[0].strip() for row in rows], lambda row: f"{file}, line {lines[row]}")
    if header[1:] == ["labels"]:
        labels, found = _joined_labels(file, rows, lines, separator, classes)
    else:
        labels, found = _bits(file, header, rows, lines), header[1:]
        labels, found = _arrange(file, labels, found, classes)
    check_class_names(found, str(file))
    file_names, labels = merge_repeated(names, labels, lambda row: f"{file}, line {lines[row]}")
    logger.info(
        "%s: %d images kept, %d classes; %d images have no label",
        *(file, len(file_names), len(found), (~labels.any(axis=1)).sum()),
    )
    return LabelTable.build(folder, file_names, labels, found)


def _rows(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line each row ends on; empty lines are skipped."""
    rows: list[list[str]] = []
    lines: list[int] = []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file}: not UTF-8 text ({error.reason}); expected a CSV file in UTF-8."
            ) from None
        except csv.Error as error:
            raise InputError(f"{file}, line {reader.line_num}: malformed CSV ({error}).") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) < 2 or header[0] != "file_name":
        raise InputError(f"{file}, line 1: the header is '{','.join(header)}', expected {FORMS}.")
    _check_form(file, header, rows, lines)
    return header, rows[1:], lines[1:]


def _check_form(file: Path, header: list[str], rows: list[list[str]], lines: list[int]) -> None:
    if len(rows) == 1:
        raise InputError(f"{file}: there is no row below the header; expected one for each image.")
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)[:NAMES_SHOWN]
    if repeated or "" in header:
        raise InputError(
            f"{file}, line 1: each column needs a name of its own; repeated or empty: {repeated or ['']}."
        )
    wrong = [place for place, row in enumerate(rows) if len(row) != len(header)]
    if wrong:
        row = wrong[0]
        raise InputError(
            f"{file}, line {lines[row]}: {len(rows[row])} fields where the header has {len(header)}. "
            "Put a field that holds a comma in double quotes."
        )


def _joined_labels(
    file: Path, rows: list[list[str]], lines: list[int], separator: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Labels (N, C) and the C class names from names joined by a separator."""
    labels_of = [[label.strip() for label in row[1].split(separator) if label.strip()] for row in rows]
    found = sorted({*chain.from_iterable(labels_of)}) if classes is None else list(classes)
    if not found:
        raise InputError(
            f"{file}: no image has a label; expected class names joined by '{separator}' in 'labels'."
        )
    column = {name: place for place, name in enumerate(found)}
    row_numbers = np.repeat(np.arange(len(rows)), [len(labels) for labels in labels_of])
    columns = [
        column[label] if label in column else column_of(found, label, f"{file}, line {lines[row]}")
        for row, labels in enumerate(labels_of)
        for label in labels
    ]
    return label_matrix(len(rows), len(found), row_numbers, np.array(columns, dtype=np.int64)), found


def _bits(file: Path, header: list[str], rows: list[list[str]], lines: list[int]) -> np.ndarray:
    """Labels (N, C) from one column of 0 and 1 a class."""
    shape = (len(rows), len(header) - 1)
    try:
        cells = (BITS[cell] for row in rows for cell in row[1:])
        return np.fromiter(cells, dtype=np.uint8, count=shape[0] * shape[1]).reshape(shape)
    except KeyError:
        pass
    for row, line in zip(rows, lines, strict=True):
        for name, cell in zip(header[1:], row[1:], strict=True):
            if cell.strip() not in BITS:
                raise InputError(
                    f"{file}, line {line}: column '{name}' is '{cell}', expected 0 or 1 ({FORMS})."
                )
    return np.array([[BITS[cell.strip()] for cell in row[1:]] for row in rows], dtype=np.uint8)


def _arrange(
    file: Path, labels: np.ndarray, found: list[str], classes: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Put the columns at the places of `classes`, where those are given."""
    if classes is None:
        return labels, found
    arranged = np.zeros((len(labels), len(classes)), dtype=np.uint8)
    arranged[:, [column_of(classes, name, f"{file}, line 1") for name in found]] = labels
    return arranged, list(classes)
