"""Tables of labels as people have them: CSV and similar text, spreadsheets; one row per image or per label."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mlic.data.readers.columns import LabelColumns
from mlic.data.readers.common import build_table, first_rows, labels_of_names, names_in_folders
from mlic.data.readers.folders import Paths, annotation_files, image_folders, parts_of_files
from mlic.data.readers.image_names import find_names
from mlic.data.readers.label_cells import ask, setting, split_cells
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
    files, folders = annotation_files(annotations), image_folders(images)
    table = read_tables(files, delimiter, encoding)
    name_column, found_names, words = find_names(table, folders, image_column, extension)
    file_of = np.array([file for file, _ in table.origins])
    names = names_in_folders(files, file_of, folders, found_names, table.place)
    columns = LabelColumns(table, name_column, label_columns, ignore_columns, other_columns, classes, unknown)
    chosen, are_signs = columns.choose()
    if are_signs:
        kept = np.arange(len(table))
        labels, form = columns.read_signs(chosen)
        labels, found = _arrange(*_without(table, labels, chosen, no_label), classes, table.place)
    else:
        known = [*classes, *([no_label] if no_label else [])] if classes is not None else None
        kept, labels, found, form = _read_text(table, names, columns, chosen, separator, known, rows)
        if no_label is None and classes is None:
            _ask_about_no_label(table, labels, found)
        labels, found = _without(table, labels, found, no_label)
    parts = np.array(parts_of_files(files), dtype=object)[file_of]
    # rows of one image must agree in all that decides its part
    decisive = {f"column '{name}'": table.columns[name] for name in other_columns if name in table.columns}
    for name, values in {"part": parts, **decisive}.items():
        first_rows(names, np.array([values], dtype=object).T, table.place, f"values of the {name}")
    used = {*chosen, name_column} - {*other_columns}
    left = [name for name in table.columns if name not in used]
    source = ", ".join(map(str, files[:NAMES_SHOWN]))
    logger.info(
        "%s%s: names from %s, labels from %s (%s): %d classes, %.1f labels an image. Other columns: %s",
        source,
        table.form,
        words,
        _listed(chosen),
        form,
        len(found),
        (labels == 1).sum() / len(labels),
        _listed(left) or "none",
    )
    return build_table(
        source,
        folders,
        [names[row] for row in kept],
        labels,
        found,
        lambda row: table.place(kept[row]),
        parts=parts[kept].tolist(),
        columns={name: [table.columns[name][row] for row in kept] for name in left},
    )


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
    cells = pd.Series(table.columns[chosen[0]], dtype=object)
    image_of, images = pd.factorize(np.array(names, dtype=object))
    share = (cells.groupby(image_of).nunique().to_numpy() > 1).mean()
    single = rows == "label" or len(chosen) > 1 or (rows is None and share >= REPEATED)
    labels_of, form = split_cells(
        cells.tolist(), table.place, separator=separator, classes=classes, single=single
    )
    sets = [labels_of[cell] for cell in cells]
    several = any(len({*labels}) > 1 for labels in labels_of.values())
    if rows is None and 0 < share < REPEATED and not several:
        reason = f"{share:.1%} of the images have several rows with different labels; list each image once"
        ask(str(table.files[0]), reason, ["data.reader.rows=label to unite them"])
    if not single or (rows is None and several):
        return np.arange(len(table)), *labels_of_names(sets, classes, table.place), form
    signs = columns.read_signs(chosen[1:])[0][:, 0] if chosen[1:] else np.ones(len(table))
    # one row of labels for each image: the union of its rows that say that it has them, or that it has not
    by_row, found = labels_of_names(sets, classes, table.place)
    stated = np.zeros((2, len(images), len(found)), dtype=bool)
    row_of, column_of = np.nonzero(by_row)
    stated[(signs[row_of] == 1).astype(int), image_of[row_of], column_of] = True
    absent, present = stated
    if (both := (absent & present).any(axis=1)).any():
        name = images[both.argmax()]
        raise InputError(f"{table.files[0]}: rows of '{name}' say that it has a label, and that it has not.")
    if rows is None and not chosen[1:] and min(stated.shape[1:]) > 1 and present.all():
        reason = f"each image has all classes of '{chosen[0]}', one per row"
        other = setting("label_columns", [chosen[0], "COLUMN"])
        words = (
            f"{other} if COLUMN says which are true, and 'data.reader.unknown={{yes:one,no:zero}}' for words"
        )
        ask(str(table.files[0]), reason, [words, "data.reader.rows=label if all are true"])
    labels, form = present.astype(np.int8), f"{form}, one row a label"
    if absent.any():
        labels[~present & ~absent] = UNKNOWN
        form += f", absent where '{chosen[1]}' is 0, unknown where there is no row"
    return np.unique(image_of, return_index=True)[1], labels, found, form


def _ask_about_no_label(table: TextTable, labels: np.ndarray, names: Sequence[str]) -> None:
    for column, name in enumerate(names):
        alone = labels[labels[:, column] == 1] == 1
        if len(names) > 1 and name.lower() in NO_LABEL and alone.sum() == len(alone):
            reason = f"'{name}' may be a class, or mean that an image has no label ({len(alone)} images)"
            ask(
                str(table.files[0]),
                reason,
                [setting("no_label", name), "data.reader.no_label='' if it is a class"],
            )


def _without(
    table: TextTable, labels: np.ndarray, names: Sequence[str], no_label: str | None
) -> tuple[np.ndarray, list[str]]:
    """Return labels and names without the class that means that there is no label."""
    if not no_label:
        return labels, [*names]
    if no_label not in names:
        raise InputError(f"{table.files[0]}: no label is '{no_label}'.", key="data.reader.no_label")
    is_other = np.array(names, dtype=object) != no_label
    if mixed := ((labels == 1)[:, is_other].any(axis=1) & (labels == 1)[:, ~is_other].any(axis=1)).sum():
        raise InputError(f"{table.files[0]}: {mixed} images have other labels beside '{no_label}'.")
    return labels[:, is_other], [name for name in names if name != no_label]


def _arrange(
    labels: np.ndarray, found: Sequence[str], classes: Sequence[str] | None, place: Callable[[int], str]
) -> tuple[np.ndarray, list[str]]:
    """Arrange the columns in the order of `classes`, if given."""
    if classes is None:
        return labels, [*found]
    labels_of_names([found], classes, place)  # refuses other classes
    arranged = pd.DataFrame(labels, columns=pd.Index(found)).reindex(columns=pd.Index(classes), fill_value=0)
    return arranged.to_numpy(dtype=np.int8), [*classes]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) if len(names) < 5 else f"'{names[0]}' to '{names[-1]}'"
