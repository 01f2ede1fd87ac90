"""Parts that the user gives: a column, list files, official parts of the annotations, or an earlier split."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from posixpath import basename
from typing import Any

import numpy as np
import pandas as pd

from mlic.data.images import without_image_extension
from mlic.data.split_settings import PARTS, SplitSettings
from mlic.data.table import LabelTable
from mlic.errors import setting_error
from mlic.escaping import restore_cell
from mlic.runs.folder import SPLIT_FILE, fold_folders

logger = logging.getLogger(__name__)

NAMES_SHOWN, VALUES_SHOWN = 3, 10
# spellings of the parts, and of yes and no, in lower case
PART_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "calibration": "calibration",
}  # fmt: skip
# columns in which yes marks a part; what is_train does not mark may be val or test
FLAGS = {
    f"{start}{name}": part for start in ("", "is_") for name, part in PART_NAMES.items() if part != "train"
}
TRUTHS = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def read_annotations(
    reader: Callable[..., LabelTable], data: Mapping[str, Any], settings: SplitSettings
) -> LabelTable:
    """Call a reader with `annotations`, `images`, and the columns that the split needs, if it has these options.

    Args:
        reader: reader of `mlic.data`, or of the user.
        data: settings of the data; only `annotations` and `images` are used.
        settings: settings of the split.

    Raises:
        InputError: a setting that the reader requires is missing, or the reader cannot read the data.
    """
    options = {key: data[key] for key in ("annotations", "images") if data.get(key) is not None}
    try:
        signature(reader).bind(**options)
    except TypeError as error:
        raise setting_error(
            "data.annotations", f"{error} of this reader; set data.annotations and data.images"
        ) from None
    named = [settings.column, settings.groups.value if settings.groups.by == "column" else None]
    if "other_columns" in signature(reader).parameters:
        options["other_columns"] = [str(name) for name in named if name is not None]
    return reader(**options)


def column_values(table: LabelTable, name: str, key: str) -> np.ndarray:
    """Return a column of the annotations, an array of str (N,).

    Args:
        table: labels.
        name: name of the column.
        key: setting that names it, for the message.

    Raises:
        InputError: there is no such column.
    """
    if name not in table.columns:
        there = ", ".join(map(repr, table.columns)) or "no other columns"
        raise setting_error(key, f"the annotations have no column '{name}'; there are {there}")
    return table.columns[name]


def with_parts(table: LabelTable, settings: SplitSettings) -> LabelTable:
    """Return the table with the given parts in `parts` and those of an earlier split in `kept`.

    One sentence in the log says what was understood.

    Args:
        table: all annotated images; `parts` holds the official parts, if any.
        settings: settings of the split.

    Raises:
        InputError: a column or file cannot be used, its values have several possible meanings, or some images have no
            part.
    """
    parts, source = None, "the annotations (data.split.official=ignore ignores them)"
    if settings.column is not None:
        values, source = (
            column_values(table, settings.column, "data.split.column"),
            f"column '{settings.column}'",
        )
        parts = _parts_of_column(values, settings)
    elif settings.files is not None:
        parts, source = _parts_of_files(table, settings), "data.split.files"
    elif table.parts is not None and settings.official == "use" and (table.parts != "").any():
        parts = _parts_of_values(table.parts, "the annotations", settings)
    table = replace(table, parts=parts)
    if parts is not None:
        if not (parts != "").any():
            raise setting_error("data.split", f"{source} gives no image a part; correct it, or do without it")
        if settings.folds is not None and settings.column is None:
            raise setting_error(
                "data.split.folds", f"the parts are already given by {source}; use only one of them"
            )
        table = _complete(table, parts, source, settings)
    if settings.keep is None:
        return table
    kept = _kept_parts(table, settings.keep)
    if table.parts is not None:
        moved = np.isin(table.parts, PARTS[1:]) & (kept != "") & (kept != table.parts)
        if moved.any():
            example = f"{moved.sum()} images, such as '{table.file_names[moved][0]}'"
            raise setting_error(
                "data.split.keep", f"{example}, have another part in {source}; use only one of them"
            )
    return replace(table, kept=kept)


def _complete(table: LabelTable, parts: np.ndarray, source: str, settings: SplitSettings) -> LabelTable:
    """Give a part to images without one, or drop them; log the result."""
    without = parts == ""
    if settings.unlisted == "drop":
        table = table.select(~without)
    elif settings.unlisted == "train" or "train" not in parts:
        # without a list of training images, train is what no other part has
        table = replace(table, parts=np.where(without, "train", parts).astype(object))
    elif without.any():
        names = ", ".join(f"'{name}'" for name in table.file_names[without][:NAMES_SHOWN])
        raise setting_error(
            "data.split.unlisted",
            f"{without.sum()} of {len(table)} images have no part in {source}, such as {names}; drop leaves them "
            "out, train trains on them",
        )
    listed = ", ".join(f"{(table.parts == part).sum()} {part}" for part in PARTS)
    logger.info("parts from %s: %s images; %d images had no part", source, listed, without.sum())
    return table


def _parts_of_column(values: np.ndarray, settings: SplitSettings) -> np.ndarray:
    if settings.folds is None:
        return _parts_of_values(values, str(settings.column), settings)
    numbers = fold_numbers(values, settings)
    if settings.fold not in numbers:
        found = _describe_values(values)
        raise setting_error("data.split.fold", f"{settings.fold} is not a fold in the column; it has {found}")
    return np.where(numbers == settings.fold, "test", "train").astype(object)


def fold_numbers(values: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Return the number of the fold of each image, int64 (N,), from values such as 3, 3.0 or fold_3.

    Raises:
        InputError: a value has no number, or there are not `settings.folds` different ones.
    """
    numbers = pd.Series(values).astype(str).str.extract(r"(\d{1,9})(?:\.0*)?$")[0].fillna("-1").astype(int)
    if -1 in set(numbers) or numbers.nunique() != settings.folds:
        found = _describe_values(values)
        raise setting_error(
            "data.split.folds", f"the column must have {settings.folds} numbers of folds; found {found}"
        )
    return numbers.to_numpy()


def _parts_of_values(
    values: np.ndarray, name: str, settings: SplitSettings, *, numbered: bool = False
) -> np.ndarray:
    """Return the part of each value; empty values have none. With `numbered`, 0, 1, 2 are train, val, test."""
    plain = pd.Series(values, dtype=object).map(_plain_value)
    found, flag = set(plain) - {""}, name.strip().lower()
    if settings.values is not None:
        meanings = {_plain_value(value): part for value, part in settings.values.items()}
    elif found <= {"0", "1"} and flag in FLAGS:
        meanings = {"0": "train", "1": FLAGS[flag]}
    elif numbered and found == {"0", "1", "2"}:
        meanings = dict(zip("012", PARTS, strict=False))
    else:
        meanings = PART_NAMES
    if missing := sorted(found - meanings.keys()):
        unknown, answers = ", ".join(map(repr, missing[:VALUES_SHOWN])), ", or ".join(_answers(found))
        reason = f"{name} has {_describe_values(values)}; {unknown} have no part. Set the meaning: {answers}"
        raise setting_error("data.split.values", reason)
    return plain.map({**meanings, "": ""}).to_numpy(dtype=object)


def _plain_value(value: Any) -> str:
    """Return a value in lower case, whole numbers without decimals, and yes and no as 1 and 0."""
    plain = re.sub(r"^(\d+)\.0*$", r"\1", str(value).strip().lower())
    return TRUTHS.get(plain, plain)


def _answers(found: set[str]) -> list[str]:
    """Return the settings for the possible meanings of values."""
    readings = {2: [("train", "test"), ("test", "train")], 3: [PARTS[:3]]}.get(len(found), [])
    pairs = [zip(sorted(found), parts, strict=True) for parts in readings]
    answers = [
        f"'data.split.values={{{', '.join(f'{value}: {part}' for value, part in meaning)}}}'"
        for meaning in pairs
    ]
    if len(found) > 2 and all(value[-1].isdigit() for value in found):
        answers.append(f"data.split.folds={len(found)} data.split.fold={min(found)} for numbers of folds")
    return answers or ["data.split.values"]


def _describe_values(values: np.ndarray) -> str:
    counts = Counter(map(str, values))
    shown = ", ".join(f"'{value}' ({number} images)" for value, number in counts.most_common(VALUES_SHOWN))
    return f"{len(counts)} values: {shown}{', ...' if len(counts) > VALUES_SHOWN else ''}"


def _parts_of_files(table: LabelTable, settings: SplitSettings) -> np.ndarray:
    """Return the part of each image from a file of names for each part, or from one file of names and parts."""
    files = settings.files
    if isinstance(files, Mapping):
        pairs = [(name, part) for part, file in files.items() for name in _read_lines(file)]
    else:
        pairs = _read_pairs(str(files))
    names, values = (np.array(column, dtype=object) for column in zip(*pairs, strict=True))
    rows = match_names(names, table.file_names, "data.split.files")
    rows, values = rows[rows >= 0], values[rows >= 0]  # also without a header
    if not isinstance(files, Mapping):
        values = _parts_of_values(values, str(files), settings, numbered=True)
    listed = pd.DataFrame({"row": rows, "part": values}).drop_duplicates()
    twice = listed["row"].duplicated()
    if twice.any():
        name = table.file_names[listed["row"][twice].tolist()[0]]
        raise setting_error("data.split.files", f"'{name}' is listed in several parts")
    given = np.full(len(table), "", dtype=object)
    given[rows] = values
    return given


def _read_lines(file: str) -> list[str]:
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise setting_error("data.split.files", f"'{file}' cannot be read ({error})") from None
    names = [line.strip().strip('"').replace("\\", "/").removeprefix("./") for line in lines if line.strip()]
    if not names:
        raise setting_error("data.split.files", f"'{file}' lists no images")
    return names


def _read_pairs(file: str) -> list[tuple[str, str]]:
    """Read lines of a name and a part, separated by a comma, a semicolon, a tab or blanks."""
    rows = [re.fullmatch(r"(.*\S)\s*[,;\s]\s*(\S+)", line) for line in _read_lines(file)]
    if None in rows:
        place = f"{file}, line {rows.index(None) + 1}"
        raise setting_error(
            "data.split.files",
            f"{place}: expected the name of an image and its part, such as '000001.jpg 0'. Lists of names are given by "
            "part: 'data.split.files={train: train.txt, test: test.txt}'",
        )
    return [(row[1].strip('"'), row[2].strip('"')) for row in rows if row]


def match_names(names: Sequence[str] | np.ndarray, file_names: np.ndarray, key: str) -> np.ndarray:
    """Find images by names that may lack extension or folder.

    All names are compared in one way, the strictest that finds an image. The log has the number of names that are not
    found.

    Args:
        names: M names.
        file_names: file names (N,) of a table.
        key: setting that the names come from, for messages.

    Returns:
        int64 (M,), row numbers; -1 if there is no such image.

    Raises:
        InputError: no name is found, or a name belongs to several images.
    """
    for form in (str, without_image_extension, lambda name: without_image_extension(basename(name))):
        keys, wanted = pd.Index(list(map(form, file_names))), pd.Index(list(map(form, names)))
        if wanted.isin(keys).any():
            break
    else:
        examples = f"'{names[0]}', is an image of the annotations, such as '{file_names[0]}'"
        raise setting_error(key, f"none of the {len(names)} listed names, such as {examples}")
    if (repeated := keys.duplicated() & keys.isin(wanted)).any():
        alike = " and ".join(f"'{file_names[row]}'" for row in np.flatnonzero(keys == keys[repeated][0])[:2])
        raise setting_error(
            key, f"a name stands for several images, {alike}; list file names with their folders"
        )
    first = np.flatnonzero(~keys.duplicated())
    found = np.append(first, -1)[keys[first].get_indexer(wanted)]
    if missing := [name for name, row in zip(names, found, strict=True) if row < 0]:
        logger.warning(
            "%s: %d of %d names are not in the annotations, such as '%s'",
            key,
            len(missing),
            len(names),
            missing[0],
        )
    return found


def _kept_parts(table: LabelTable, keep: str) -> np.ndarray:
    """Return the part of each image in an earlier split; empty for new images."""
    if folds := fold_folders(keep):
        raise setting_error(
            "data.split.keep", f"'{keep}' is a cross-validation; expected one run, such as '{folds[0]}'"
        )
    file = Path(keep) / SPLIT_FILE if Path(keep).is_dir() else Path(keep)
    try:
        split = pd.read_csv(file, usecols=["file_name", "split"], dtype=object, na_filter=False)
        if unknown := {*split["split"]} - {*PARTS}:
            raise ValueError(f"it has the part '{min(unknown)}'")
    except (OSError, ValueError) as error:  # errors of pandas are ValueErrors
        reason = f"'{file}' cannot be read ({error}); expected a run folder, or the {SPLIT_FILE} of a run"
        raise setting_error("data.split.keep", reason) from error
    names = [restore_cell(name) for name in split["file_name"]]
    rows = match_names(names, table.file_names, "data.split.keep")
    kept = np.full(len(table), "", dtype=object)
    kept[rows[rows >= 0]] = split["split"].to_numpy(dtype=object)[rows >= 0]
    logger.info(
        "parts kept from '%s': %d images; %d new images are distributed by stratification",
        file,
        (kept != "").sum(),
        (kept == "").sum(),
    )
    return kept
