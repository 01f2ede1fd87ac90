"""Curation: draw a subset, drop rare classes, and keep or drop images without labels."""

import math
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice
from mlic.seeds import check_seed


@dataclass(frozen=True)
class CurationReport:
    """Report of a curation.

    Attributes:
        images_before, images_after: number of images before and after.
        classes_before, classes_after: number of classes before and after.
        min_images: the count below which classes were dropped (a share is converted to a count).
        dropped_classes: maps each dropped class to its number of images in the subset.
        not_in_subset: number of images left out by `num_images`.
        unlabelled: number of images without a class after rare classes were dropped; all their labels are 0 or unknown.
        unlabelled_dropped: True if these images were dropped.
    """

    images_before: int
    images_after: int
    classes_before: int
    classes_after: int
    min_images: int
    dropped_classes: dict[str, int]
    not_in_subset: int
    unlabelled: int
    unlabelled_dropped: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return asdict(self)


def curate(
    table: LabelTable,
    *,
    num_images: int | None = None,
    min_images_per_class: int | float = 0,
    unlabelled: str = "keep",
    seed: int = 0,
) -> tuple[LabelTable, CurationReport]:
    """Draw a subset, then drop rare classes, then (optionally) images left without labels.

    Args:
        table: all images.
        num_images: size of a random subset; None takes all images. The rank of an image in the draw depends only on
            the seed and its name, so that leaving out one image changes the subset by one image.
        min_images_per_class: classes with fewer images are dropped. An int is a count; a float in (0, 1) is a share of
            the images, rounded up.
        unlabelled: `keep` or `drop` images without labels.
        seed: seed of the subset.

    Returns:
        The curated table and a report.

    Raises:
        InputError: a setting is out of range, `num_images` is larger than the table, or no class or no image is left.
    """
    check_choice("data.unlabelled", unlabelled, ("keep", "drop"))
    check_seed("data.seed", seed)
    subset, least = _subset(table, num_images, seed), min_images_per_class
    if not (0 <= least < 1 or least == least // 1 > 0):
        raise InputError(
            f"data.min_images_per_class={least}: expected a whole number of images, or a share between 0 and 1."
        )
    # 0.1 * 30 is 3.0000000000000004, which must not be rounded up to 4
    min_images = math.ceil(least * len(subset) - 1e-9) if least < 1 else int(least)
    counts = subset.counts()
    frequent = counts >= min_images
    if not frequent.any():
        raise InputError(
            f"no classes are left after curation: data.min_images_per_class requires {min_images} of {len(subset)} "
            f"images, but no class has more than {counts.max(initial=0)}. Lower it."
        )
    curated = subset.select_classes(frequent)
    without = ~curated.positives.any(axis=1)
    if unlabelled == "drop":
        curated = curated.select(np.flatnonzero(~without))
    if not len(curated):
        raise InputError(
            "no images are left after curation: none has a label. Set data.unlabelled=keep, or use more images."
        )
    return curated, CurationReport(
        images_before=len(table),
        images_after=len(curated),
        classes_before=len(table.classes),
        classes_after=len(curated.classes),
        min_images=min_images,
        dropped_classes={table.classes[column]: int(counts[column]) for column in np.flatnonzero(~frequent)},
        not_in_subset=len(table) - len(subset),
        unlabelled=int(without.sum()),
        unlabelled_dropped=unlabelled == "drop",
    )


def _subset(table: LabelTable, num_images: int | None, seed: int) -> LabelTable:
    if num_images is None:
        return table
    if not 1 <= num_images <= len(table):
        raise InputError(
            f"data.num_images={num_images}: expected from 1 to {len(table)}, the number of images, or null for all."
        )
    draws = [
        blake2b(f"{seed}/{n}".encode(errors="surrogatepass"), digest_size=16).digest()
        for n in table.file_names
    ]
    return table.select(sorted(range(len(table)), key=draws.__getitem__)[:num_images])
