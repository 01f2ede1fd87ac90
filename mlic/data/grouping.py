"""Groups of images that must stay in one part: by a column, folder or name, and copies of an image."""

import logging
import re
from pathlib import PurePosixPath

import numpy as np

from mlic.data.parts import column_values
from mlic.data.split_settings import GroupSettings
from mlic.data.table import LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)


def find_copies(digests: np.ndarray) -> np.ndarray:
    """Find rows with the same bytes as an earlier row.

    Args:
        digests: digests (N,) of the bytes; empty ones are ignored.

    Returns:
        int64 (K, 2): each copy and the first row with the same bytes.
    """
    rows = np.flatnonzero(digests != np.zeros(1, digests.dtype))
    _, first, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
    pairs = np.stack([rows, rows[first][inverse]], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def with_groups(table: LabelTable, settings: GroupSettings) -> LabelTable:
    """Return the table with the groups by column, folder or name, joined with those it has.

    Images with an empty value in the column are groups of their own. Groups of near duplicates need features, and are
    joined by the data module.

    Raises:
        InputError: the column does not exist, or the value of a setting cannot be used.
    """
    if settings.by is None or settings.by == "duplicates":
        return table
    keys = _KEYS[settings.by](table, settings.value)
    _, groups = np.unique(keys, return_inverse=True)
    alone = np.flatnonzero(keys == "")
    if len(alone) and settings.by != "column":
        raise InputError(
            f"data.split.groups.by={settings.by} with data.split.groups.value={settings.value} finds no group for "
            f"{len(alone)} of {len(table)} images, such as '{table.file_names[alone[0]]}'. It must match all file "
            "names, such as '^(.*)_' for the part of the name before the last underscore; or point data.images at "
            "the folder above.",
            key="data.split.groups.value",
        )
    groups[alone] = len(table) + alone
    table = table.join_groups(groups)
    _, sizes = np.unique(groups, return_counts=True)
    logger.log(
        logging.WARNING if len(sizes) == len(table) > 1 else logging.INFO,
        "groups by %s%s: %d groups of %d images, the largest of %d%s",
        settings.by,
        "" if settings.value is None else f" '{settings.value}'",
        *(len(sizes), len(table), sizes.max(initial=0)),
        f"; {len(alone)} images without a value are groups of their own" if len(alone) else "",
    )
    return table


def _by_column(table: LabelTable, value: str | int | None) -> np.ndarray:
    cells = column_values(table, str(value), "data.split.groups.value")
    return np.array([str(cell).strip() for cell in cells], dtype=object)


def _by_folder(table: LabelTable, value: str | int | None) -> np.ndarray:
    if value is not None and not str(value).isdigit():
        raise InputError(
            f"data.split.groups.value={value}: with data.split.groups.by=folder, expected the number of leading "
            "folders of the file names that identify a group, or null for the folder of the file.",
            key="data.split.groups.value",
        )
    folders = [PurePosixPath(name).parts[:-1] for name in table.file_names]
    keys = ["/".join(parts if value is None else parts[: int(value)]) for parts in folders]
    return np.array(keys, dtype=object)


def _by_name(table: LabelTable, value: str | int | None) -> np.ndarray:
    try:
        pattern = re.compile(str(value or ""))
    except re.error as error:
        raise InputError(
            f"data.split.groups.value={value}: not a regular expression ({error}).",
            key="data.split.groups.value",
        ) from error
    found = [pattern.search(name) for name in table.file_names]
    keys = [match[1 if pattern.groups else 0] or "" if match else "" for match in found]
    return np.array(keys, dtype=object)


_KEYS = {"column": _by_column, "folder": _by_folder, "name": _by_name}
