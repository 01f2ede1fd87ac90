"""Tables of labels as people have them: CSV and similar text, spreadsheets; one row per image or per label."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlic.data.readers.columns import LabelColumns
from mlic.data.readers.common import build_table, column_of, first_rows, labels_of_names, safe_file_names
from mlic.data.readers.folders import Paths, annotation_files, image_folders, parts_of_files, subfolder_of
from mlic.data.readers.image_names import find_names
from mlic.data.readers.label_cells import split_cells
from mlic.data.readers.label_text import option, setting
from mlic.data.readers.tabular import TextTable, read_tables
from mlic.data.table import NAMES_SHOWN, UNKNOWN, LabelTable
from mlic.errors import InputError, check_choice

logger = logging.getLogger(__name__)

# words for "no label" that are also possible names of a class
NO_LABEL = frozenset({
    "no finding", "no findings", "no_finding", "no label", "no_label", "none", "nothing", "nan", "na", "n/a", "null",
    "-",
})  # fmt: skip
REPEATED = 0.2  # share of images with several rows from which a row is taken for one label


def read_csv(
    annotations: Paths,
    images: Paths,
    *,
    separator: str | None = None,
    classes: Sequence[str] | None = None,
    ignore_columns: Sequence[str] | None = None,
    image_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    extension: str | None = None,
    no_label: str | None = None,
    unknown: Mapping[str, str] | None = None,
    rows: str | None = None,
    other_columns: Sequence[str] = (),
) -> LabelTable:
    r"""Read labels from a table with a header: CSV or similar text, or a spreadsheet.

    The header, the cells and the names of the files in the image folders determine which column names the images, and
    which columns hold labels in which form: one column of joined labels or lists, one column of 0 and 1 per class, or
    one row per label. A log message states what was understood. If two readings are possible, the error names the
    setting for each.

    Args:
        annotations: file, pattern such as `*/labels.csv`, or list of files. If the names of several files or of their
            folders state a part (`train`, `val`, `test`), it becomes the part of their images.
        images: folder to which the file names are relative; or several folders or a pattern, all of which are searched.
        separator: text between two labels in a cell; `\t` is a tab. Default: recognised.
        classes: all class names; any other label is then an error. Default: the names that occur.
        ignore_columns: columns that are not classes. Default: none, and a column of 0 and 1 whose name commonly has
            another meaning, such as `is_valid`, is an error unless `classes` contains it.
        image_column: column with the file names. Default: recognised.
        label_columns: columns with the labels: one of text; or one of 0 and 1 per class; or one of text and one of 0
            and 1 that says whether the image has the label. Default: recognised.
        delimiter: character between two cells. Default: recognised.
        encoding: encoding of the text. Default: recognised.
        extension: end of the file names that the table omits, such as `.jpg`. Default: recognised.
        no_label: label that means that the image has none, such as `No Finding`; an empty text if no label does.
        unknown: meaning of `-1` and `blank` (or other cells) in columns of 0 and 1: `ignore` (not known), `zero` or
            `one`.
        rows: `image` if an image has one row, `label` if a row has one of several labels of an image. Default:
            recognised.
        other_columns: columns that are used otherwise, such as for the split, and are never classes.

    Returns:
        The label table. Columns without names and labels are in its `columns`.

    Raises:
        InputError: a file is missing or malformed, can be read in two ways, has a label outside `classes`, lists an
            image with two different sets of labels, or names an image outside the folders.
    """
    if rows is not None:
        check_choice("data.reader.rows", rows, ("image", "label"))
    files, folders = annotation_files(annotations, "a CSV file"), image_folders(images)
    table = read_tables(files, delimiter, encoding)
    name_column, found_names, words = find_names(table, folders, image_column, extension)
    names = _names_in_folders(table, folders, found_names)
    columns = LabelColumns(table, name_column, label_columns, ignore_columns, other_columns, classes, unknown)
    chosen, are_signs = columns.choose()
    if are_signs:
        kept = np.arange(len(table))
        labels, form = columns.read_signs(chosen)
        labels, found = _without(table, labels, chosen, no_label, ask=False)
        labels, found = _arrange(labels, found, classes, f"{files[0]}, line 1")
    else:
        known = [*classes, *([no_label] if no_label else [])] if classes is not None else None
        kept, labels, found, form = _read_text(table, names, columns, chosen, separator, known, rows)
        labels, found = _without(table, labels, found, no_label, ask=classes is None)
    used = {*chosen, name_column} - {*other_columns}
    left = [name for name in table.columns if name not in used]
    of_file = parts_of_files(files)
    parts = [of_file[file] for file, _ in table.origins]
    # rows of one image must agree in all that decides its part
    for name, values in {
        "part": parts,
        **{f"column '{name}'": table.columns.get(name) for name in other_columns},
    }.items():
        if values is not None and len(kept) < len(table):
            first_rows(names, np.array([values], dtype=object).T, table.place, f"values of the {name}")
    logger.info(
        "%s%s: names from %s, labels from %s (%s): %d classes, %.1f labels an image%s.%s",
        *(", ".join(map(str, files[:NAMES_SHOWN])), table.form, words, _listed(chosen), form, len(found)),
        *((labels == 1).sum() / len(labels), ", parts from the names of the files" if any(of_file) else ""),
        f" Other columns: {_listed(left)}." if left else "",
    )
    return build_table(
        ", ".join(map(str, files[:NAMES_SHOWN])),
        folders,
        [names[row] for row in kept],
        labels,
        found,
        lambda row: table.place(kept[row]),
        parts=[parts[row] for row in kept],
        columns={name: [table.columns[name][row] for row in kept] for name in left},
    )


def _names_in_folders(table: TextTable, folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Return safe names, relative to the image folders where an annotation file lies beside its images."""
    safe = safe_file_names(names, table.place)
    for number, file in enumerate(table.files):
        rows = [row for row, (origin, _) in enumerate(table.origins) if origin == number]
        prefix = subfolder_of(file, folders, [safe[row] for row in rows])
        for row in rows if prefix else ():
            safe[row] = prefix + safe[row]
    return safe


def _read_text(
    table: TextTable,
    names: Sequence[str],
    columns: LabelColumns,
    chosen: Sequence[str],
    separator: str | None,
    classes: Sequence[str] | None,
    rows: str | None,
) -> tuple[np.ndarray, np.ndarray, list[str], str]:
    """Return rows (M,), their labels (M, C), class names and the form in words, from a column of text."""
    cells = table.columns[chosen[0]]
    cells_of: dict[str, set[str]] = defaultdict(set)
    for name, cell in zip(names, cells, strict=True):
        cells_of[name].add(cell)
    share = sum(len(found) > 1 for found in cells_of.values()) / len(cells_of)
    single = rows == "label" or len(chosen) > 1 or (rows is None and share >= REPEATED)
    labels_of, form = split_cells(cells, table.place, separator=separator, classes=classes, single=single)
    sets = [frozenset(labels_of[cell]) for cell in cells]
    if rows is None and 0 < share < REPEATED and all(len(found) < 2 for found in sets):
        raise InputError(
            f"{table.files[0]}: {share:.1%} of the images have several rows with different labels. Unite them with "
            "data.reader.rows=label, or list each image once, with all its labels."
        )
    if not single or (rows is None and any(len(found) > 1 for found in sets)):
        labels, found = labels_of_names(sets, classes, table.files[0], table.place)
        return np.arange(len(table)), labels, found, form
    signs = columns.read_signs(chosen[1:])[0][:, 0] if chosen[1:] else np.ones(len(table))
    present: dict[str, set[str]] = {name: set() for name in cells_of}
    absent: dict[str, set[str]] = {name: set() for name in cells_of}
    for name, labels_of_row, sign in zip(names, sets, signs, strict=True):
        (present if sign == 1 else absent)[name].update(labels_of_row)
    if both := [name for name in cells_of if present[name] & absent[name]]:
        raise InputError(
            f"{table.files[0]}: rows of '{both[0]}' say that it has a label, and that it has not."
        )
    images, kept = np.unique(np.array(names, dtype=object), return_index=True)

    def place(image: int) -> str:
        return table.place(kept[image])

    known = classes or sorted(frozenset().union(*sets))
    labels, found = labels_of_names([present[name] for name in images], known, table.files[0], place)
    if rows is None and not chosen[1:] and min(len(known), len(images)) > 1:
        _refuse_all_pairs(table, chosen[0], [len(found) == len(known) for found in present.values()])
    form += ", one row a label"
    if any(absent.values()):
        seen, _ = labels_of_names([absent[name] for name in images], known, table.files[0], place)
        labels[(labels == 0) & (seen == 0)] = UNKNOWN
        form += f", absent where '{chosen[1]}' is 0, unknown where there is no row"
    return kept, labels, found, form


def _refuse_all_pairs(table: TextTable, column: str, complete: Sequence[bool]) -> None:
    """Refuse one row per image and class, of which another column states in words or numbers which are true."""
    if all(complete):
        raise InputError(
            f"{table.files[0]}: each image has all classes of '{column}', one per row. If another column states which "
            f"are true, set {setting('label_columns', [column, 'COLUMN'])} and, for words, their meaning, such as "
            "'data.reader.unknown={yes:one,no:zero}'. If all are true, set data.reader.rows=label."
        )


def _without(
    table: TextTable, labels: np.ndarray, names: Sequence[str], no_label: str | None, *, ask: bool
) -> tuple[np.ndarray, list[str]]:
    """Return labels and names without the class that means that there is no label."""
    for column, name in enumerate(names) if no_label is None and ask and len(names) > 1 else ():
        alone = labels[labels[:, column] == 1] == 1
        if name.lower() in NO_LABEL and alone.sum() == len(alone):
            raise InputError(
                f"{table.files[0]}: '{name}' may be a class, or mean that an image has no label ({len(alone)} images). "
                f"Set {option('no_label', name)}, or data.reader.no_label='' if it is a class."
            )
    if not no_label:
        return labels, [*names]
    if no_label not in names:
        raise InputError(f"{table.files[0]}: no label is '{no_label}'.", key="data.reader.no_label")
    kept = [column for column, name in enumerate(names) if name != no_label]
    if mixed := (labels[labels[:, [*names].index(no_label)] == 1][:, kept] == 1).any(axis=1).sum():
        raise InputError(f"{table.files[0]}: {mixed} images have other labels beside '{no_label}'.")
    return labels[:, kept], [names[column] for column in kept]


def _arrange(
    labels: np.ndarray, found: Sequence[str], classes: Sequence[str] | None, place: str
) -> tuple[np.ndarray, list[str]]:
    """Arrange the columns in the order of `classes`, if given."""
    if classes is None:
        return labels, [*found]
    arranged = np.zeros((len(labels), len(classes)), dtype=np.int8)
    arranged[:, [column_of(classes, name, place) for name in found]] = labels
    return arranged, [*classes]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) if len(names) < 5 else f"'{names[0]}' to '{names[-1]}'"
