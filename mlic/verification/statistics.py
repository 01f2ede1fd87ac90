"""Statistics of labels: classes, images, and pairs of classes. Unknown labels count as absent unless stated."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, triu

from mlic.data.splitting import SplitTrial
from mlic.data.table import LabelTable

PAIRS = 1000  # maximum number of rows of class_pairs.csv
BLOCK_ROWS = 65_536


def class_table(table: LabelTable) -> pd.DataFrame:
    """Tabulate the classes, the most frequent first.

    Args:
        table: N images, C classes.

    Returns:
        Columns `class`, `images`, `share` (of the images whose label is known) and `alone` (images without other
        classes).
    """
    counts = table.counts()
    alone = table.select(table.positives.sum(axis=1) == 1).counts()
    columns: dict[str, Any] = {"class": table.classes, "images": counts}
    columns |= {"share": counts / np.maximum(table.known.sum(axis=0), 1), "alone": alone}
    made = pd.DataFrame(columns)
    return made.sort_values("images", ascending=False, kind="stable", ignore_index=True)


def add_parts(classes: pd.DataFrame, table: LabelTable, trial: SplitTrial) -> pd.DataFrame:
    """Add a column for each part of a split with the images of each class; empty for classes dropped by curation.

    Args:
        classes: result of `class_table`.
        table: curated images that were split.
        trial: split of `table`.
    """
    parts = {part: table.select(rows).counts() for part, rows in trial.split.parts().items()}
    added = pd.DataFrame(parts, index=pd.Index(table.classes), dtype="Int64")
    return classes.join(added, on="class")


def count_images(classes: pd.DataFrame) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of images of each class before and after curation.

    Args:
        classes: result of `class_table` or `add_parts`; the former has no counts after curation.
    """
    parts = classes.drop(columns=["class", "images", "share", "alone"])
    names, after = classes["class"].tolist(), parts.sum(axis=1).astype(int)
    return dict(zip(names, classes["images"].tolist(), strict=True)), dict(
        zip(names, after.tolist(), strict=True)
    )


def pair_table(table: LabelTable, most: int = PAIRS) -> pd.DataFrame:
    """Tabulate pairs of classes that occur together, the most frequent first.

    Returns:
        Columns `first`, `second`, `images` (with both), and `lift`, the ratio to the number expected if the classes
        were independent, `N n_both / (n_first n_second)`.
    """
    counts = table.counts()
    both = csr_matrix((len(table.classes),) * 2, dtype=np.int64)
    # in blocks, because a sparse copy is larger than the table itself
    for start in range(0, len(table), BLOCK_ROWS):
        block = csr_matrix(table.labels[start : start + BLOCK_ROWS] == 1, dtype=np.int64)
        both = both + block.T @ block
    pairs = triu(both, k=1).tocoo()
    numbers = np.asarray(pairs.data, dtype=np.int64)
    order = np.lexsort((pairs.col, pairs.row, -numbers))[:most]
    first, second, images = pairs.row[order], pairs.col[order], numbers[order]
    names = np.array(table.classes, dtype=object)
    lift = len(table) * images / (counts[first] * counts[second])
    return pd.DataFrame({"first": names[first], "second": names[second], "images": images, "lift": lift})


def label_summary(table: LabelTable) -> dict[str, Any]:
    """Return the numbers of images, classes, labels, labels per image, and of images with 0, 1, 2, ... labels."""
    per_image = table.positives.sum(axis=1, dtype=np.int64)
    numbers, images = np.unique(per_image, return_counts=True)
    return {
        "images": len(table),
        "classes": len(table.classes),
        "labels": int(per_image.sum()),
        "labels_per_image": float(per_image.mean()) if len(table) else 0.0,
        "unlabelled_images": int((per_image == 0).sum()),
        "images_by_labels": {
            str(number): count for number, count in zip(numbers.tolist(), images.tolist(), strict=True)
        },
    }
