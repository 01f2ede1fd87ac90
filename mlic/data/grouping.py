"""Groups of images that must stay in one part: by a column, folder or name, and copies of an image."""

import logging
import re
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

from mlic.data.parts import column_values
from mlic.data.split_settings import GroupSettings
from mlic.data.table import LabelTable
from mlic.errors import setting_error

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
    key = "data.split.groups.value"
    if settings.by == "column":
        keys = [str(cell).strip() for cell in column_values(table, str(settings.value), key)]
    else:
        try:
            key_of = _folder_key(settings.value) if settings.by == "folder" else _name_key(settings.value)
        except (ValueError, re.error) as error:
            raise setting_error(key, f"not for groups.by={settings.by} ({error})") from error
        keys = list(map(key_of, table.file_names))
        if "" in keys:
            example = f"{keys.count('')} of {len(table)} images, such as '{table.file_names[keys.index('')]}'"
            advice = "such as '^(.*)_' for the part of the name before the last underscore"
            raise setting_error(
                key, f"{settings.value} finds no group for {example}; it must match all, {advice}"
            )
    _, groups = np.unique(np.array(keys, dtype=object), return_inverse=True)
    alone = np.flatnonzero(np.array(keys, dtype=object) == "")
    groups[alone] = len(table) + alone
    _, sizes = np.unique(groups, return_counts=True)
    logger.info(
        "groups by %s: %d groups of %d images, the largest of %d; %d images without a value are groups of their own",
        settings.by,
        len(sizes),
        len(table),
        sizes.max(initial=0),
        len(alone),
    )
    return table.join_groups(groups)


def _folder_key(value: str | int | None) -> Callable[[str], str]:
    """Return a function from a file name to its first `value` folders, or all of them."""
    number = None if value is None else int(value)
    return lambda name: "/".join(PurePosixPath(name).parts[:-1][:number])


def _name_key(value: str | int | None) -> Callable[[str], str]:
    """Return a function from a file name to the first group, or else the whole match, of a regular expression."""
    pattern = re.compile(str(value or ""))

    def key_of(name: str) -> str:
        match = pattern.search(name)
        return (match[1 if pattern.groups else 0] or "") if match else ""

    return key_of
