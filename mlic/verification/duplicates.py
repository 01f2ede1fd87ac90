"""Images with identical bytes, with the same or with different labels."""

import numpy as np

from mlic.data.grouping import find_copies
from mlic.data.table import LabelTable
from mlic.verification.findings import Finding

SEPARATOR = "|"


def find_duplicates(table: LabelTable, digests: np.ndarray) -> list[Finding]:
    """Return one finding for each image with the same bytes as an earlier one, compared with the first of these.

    Args:
        table: N images and their labels.
        digests: digests (N,) of the bytes; empty ones are ignored.
    """
    return [_compare(table, row, first) for row, first in find_copies(digests).tolist()]


def _compare(table: LabelTable, row: int, first: int) -> Finding:
    own, other = table.labels[row], table.labels[first]
    conflicts = own + other == 1  # 1 and 0; an unknown label contradicts nothing
    names = {"file_name": table.file_names[row], "same_as": table.file_names[first]}
    differences = [
        f"only {where}: {SEPARATOR.join(table.classes[column] for column in np.flatnonzero(labels))}"
        for where, labels in (("here", conflicts & (own == 1)), ("there", conflicts & (other == 1)))
        if labels.any()
    ]
    if not differences:
        return Finding("duplicate", **names, detail="same labels")
    return Finding("conflicting_duplicate", **names, detail="; ".join(differences))
