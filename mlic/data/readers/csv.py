"""CSV files of labels with one row per image, in two forms."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from mlic.data.readers.common import (
    check_separator,
    column_of,
    existing_file,
    image_folder,
    label_matrix,
    merge_repeated,
    refuse_combinations,
    refuse_list,
    safe_file_names,
    setting,
)
from mlic.data.table import NAMES_SHOWN, LabelTable, check_class_names
from mlic.errors import InputError

logger = logging.getLogger(__name__)

FORMS = "'file_name,labels' or 'file_name' followed by one column of 0 and 1 per class"
# names of columns that are not classes, common in public data sets and in tables written by pandas
NOT_CLASSES = frozenset({
    "is_valid", "is_train", "is_test", "is_val", "split", "subset", "part", "fold", "kfold", "train", "test", "val",
    "valid", "validation", "dev", "index", "id", "image_id", "unnamed: 0",
})  # fmt: skip
BITS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def read_csv(
    annotations: str | Path,
    images: str | Path,
    *,
    separator: str = "|",
    classes: Sequence[str] | None = None,
    ignore_columns: Sequence[str] | None = None,
) -> LabelTable:
    r"""Read labels from a comma-separated UTF-8 file with a header.

    The header determines the form: `file_name,labels`, where the class names of an image are joined by `separator`
    (an empty field for an image without labels), or `file_name` followed by one column of 0 and 1 per class.

    Args:
        annotations: CSV file.
        images: folder to which the file names are relative.
        separator: text between two labels in the first form; `\t` is a tab.
        classes: all class names; any other label is then an error. Default: the names that occur.
        ignore_columns: columns that are not classes. Default: none, and a column whose name commonly has another
            meaning, such as `is_valid`, is an error unless `classes` contains it.

    Returns:
        The label table.

    Raises:
        InputError: the file is missing or malformed, has a label outside `classes` or columns that are not classes,
            lists an image with two different sets of labels, or names an image outside the folder; or most class names
            are several names joined by another separator.
    """
    file, folder = existing_file(annotations, "a CSV file"), image_folder(images)
    separator = check_separator(separator)
    header, rows, lines = _leave_out(file, *_rows(file), ignore_columns)
    names = safe_file_names([row[0].strip() for row in rows], lambda row: f"{file}, line {lines[row]}")
    if "labels" in header:
        _refuse_other_columns(file, header)
        labels, found = _joined_labels(file, rows, lines, separator, classes)
    else:
        if ignore_columns is None:
            _ask_about_columns(file, header, classes or ())
        labels, found = _bits(file, header, rows, lines), header[1:]
        labels, found = _arrange(file, labels, found, classes)
    check_class_names(found, str(file), labels)
    file_names, labels = merge_repeated(names, labels, lambda row: f"{file}, line {lines[row]}")
    logger.info(
        "%s: %d images kept, %d classes; %d images have no label",
        *(file, len(file_names), len(found), (~labels.any(axis=1)).sum()),
    )
    return LabelTable.build(folder, file_names, labels, found)


def _leave_out(
    file: Path, header: list[str], rows: list[list[str]], lines: list[int], ignored: Sequence[str] | None
) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, rows and line numbers without the ignored columns."""
    if not ignored:
        return header, rows, lines
    if isinstance(ignored, str):
        raise InputError(
            f"data.reader.ignore_columns={ignored}: expected a list of columns, such as [is_valid].",
            key="data.reader.ignore_columns",
        )
    if unknown := [name for name in ignored if name not in header[1:]]:
        raise InputError(
            f"{file}, line 1: no column '{unknown[0]}' to ignore (data.reader.ignore_columns). Columns after "
            f"file_name: {', '.join(header[1:])}."
        )
    kept = [place for place, name in enumerate(header) if name not in ignored]
    if len(kept) == 1:
        raise InputError(f"{file}: data.reader.ignore_columns leaves no columns; expected {FORMS}.")
    return [header[place] for place in kept], [[row[place] for place in kept] for row in rows], lines


def _refuse_other_columns(file: Path, header: list[str]) -> None:
    others = [name for name in header[1:] if name != "labels"]
    if others:
        raise InputError(
            f"{file}, line 1: unexpected columns beside 'labels': {', '.join(others)}. Expected {FORMS}. Ignore the "
            f"other columns with {setting('ignore_columns', others)}."
        )


def _ask_about_columns(file: Path, header: list[str], classes: Sequence[str]) -> None:
    """Refuse columns that are unlikely to be classes; a column such as `is_valid` would be learnt like any other."""
    doubtful = [name for name in header[1:] if name.lower() in NOT_CLASSES and name not in classes]
    if doubtful:
        raise InputError(
            f"{file}, line 1: columns that are usually not classes: {', '.join(doubtful)}. Ignore them with "
            f"{setting('ignore_columns', doubtful)}. If they are classes, set data.reader.ignore_columns=[] or "
            "list all classes in data.reader.classes=[...]."
        )


def _rows(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, rows, and the line on which each row ends; empty lines are skipped."""
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
        raise InputError(f"{file}, line 1: the header is '{','.join(header)}'; expected {FORMS}.")
    _check_form(file, header, rows, lines)
    return header, rows[1:], lines[1:]


def _check_form(file: Path, header: list[str], rows: list[list[str]], lines: list[int]) -> None:
    if len(rows) == 1:
        raise InputError(f"{file}: no rows below the header; expected one row per image.")
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)[:NAMES_SHOWN]
    if repeated or "" in header:
        raise InputError(
            f"{file}, line 1: each column needs its own name; repeated or empty: {repeated or ['']}."
        )
    wrong = [place for place, row in enumerate(rows) if len(row) != len(header)]
    if wrong:
        row = wrong[0]
        raise InputError(
            f"{file}, line {lines[row]}: {len(rows[row])} fields, but the header has {len(header)}. "
            "Put fields that contain a comma in double quotes."
        )


def _joined_labels(
    file: Path, rows: list[list[str]], lines: list[int], separator: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Parse names joined by a separator to labels (N, C) and the C class names."""
    cells = [row[1].strip() for row in rows]
    for cell, line in zip(cells, lines, strict=True):
        refuse_list(cell, f"{file}, line {line}", separator, classes)
    labels_of = [[label.strip() for label in cell.split(separator) if label.strip()] for cell in cells]
    found = sorted({*chain.from_iterable(labels_of)}) if classes is None else list(classes)
    if not found:
        raise InputError(
            f"{file}: no image has a label; expected class names joined by '{separator}' in 'labels'."
        )
    if classes is None:
        refuse_combinations(found, str(file))
    column = {name: place for place, name in enumerate(found)}
    row_numbers = np.repeat(np.arange(len(rows)), [len(labels) for labels in labels_of])
    columns = [
        column[label] if label in column else column_of(found, label, f"{file}, line {lines[row]}")
        for row, labels in enumerate(labels_of)
        for label in labels
    ]
    return label_matrix(len(rows), len(found), row_numbers, np.array(columns, dtype=np.int64)), found


def _bits(file: Path, header: list[str], rows: list[list[str]], lines: list[int]) -> np.ndarray:
    """Parse one column of 0 and 1 per class to labels (N, C)."""
    shape = (len(rows), len(header) - 1)
    try:
        cells = (BITS[cell] for row in rows for cell in row[1:])
        return np.fromiter(cells, dtype=np.uint8, count=shape[0] * shape[1]).reshape(shape)
    except KeyError:
        pass
    wrong = {
        name: next(
            ((row[place], line) for row, line in zip(rows, lines, strict=True) if not _is_bit(row[place])),
            None,
        )
        for place, name in enumerate(header[1:], 1)
    }
    wrong = {name: found for name, found in wrong.items() if found is not None}
    if wrong:
        others = [
            name
            for place, name in enumerate(header)
            if name in wrong and not any(_is_bit(row[place]) for row in rows)
        ]
        name, (cell, line) = next(iter(wrong.items()))
        raise InputError(
            f"{file}, line {line}: column '{name}' is '{cell}'; expected 0 or 1 ({FORMS}). Ignore columns that are "
            f"not classes with {setting('ignore_columns', others or [name])}."
        )
    return np.array([[BITS[cell.strip()] for cell in row[1:]] for row in rows], dtype=np.uint8)


def _is_bit(cell: str) -> bool:
    return cell.strip() in BITS


def _arrange(
    file: Path, labels: np.ndarray, found: list[str], classes: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Arrange the columns in the order of `classes`, if given."""
    if classes is None:
        return labels, found
    arranged = np.zeros((len(labels), len(classes)), dtype=np.uint8)
    arranged[:, [column_of(classes, name, f"{file}, line 1") for name in found]] = labels
    return arranged, list(classes)
