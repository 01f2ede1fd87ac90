"""Stratified splits into train, val and test parts."""

import logging
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import compress
from typing import Any

import numpy as np

from mlic.data.split_plan import Split, SplitPlan, given_parts, group_numbers
from mlic.data.split_settings import PARTS, SplitSettings
from mlic.data.table import LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)


def stratified_split(table: LabelTable, settings: SplitSettings | None = None, **options: Any) -> Split:
    """Split by iterative stratification: test is taken from all images, then val and calibration from the rest.

    Both shares refer to all images: 0.2 and 0.1 leave 0.7 for training. Sizes match the shares only approximately,
    because the shares of the classes have priority (Sechidis et al., On the Stratification of Multi-Label Data, 2011).

    Images without labels form a separate stratum, and unknown labels count as absent. Rows are sorted by file name, so
    that the same labels give the same split. Rows of one group of the table stay in one part, which makes sizes less
    exact.

    Parts of the table (`parts`) are used as they are; val and test are taken from its training images if they are not
    among them. Images that an earlier split knows (`kept`) keep their part; new images follow their group, and those
    without one are distributed so that every part comes close to its share of each class.

    Args:
        table: curated labels.
        settings: settings of the split.
        options: fields of `SplitSettings`, such as `test=0.2, val=0.1, seed=0`, in place of `settings`.

    Returns:
        The rows of the parts.

    Raises:
        InputError: a setting is out of range, there are too few images, given parts divide a group, or a part has no
            image of a class.
    """
    settings = settings or SplitSettings.of(options)
    trial = try_split(table, settings)
    if trial.lacking:
        message = _describe_lacking(table, trial)
        if settings.on_missing == "error":
            raise InputError(message, key="data.split.on_missing")
        logger.warning(message)
    return trial.split


def check_sizes(table: LabelTable, settings: SplitSettings) -> None:
    """Check without splitting that there are enough images for the parts.

    Raises:
        InputError: a setting is out of range, or there are too few images.
    """
    SplitPlan(table, settings)


@dataclass(frozen=True, eq=False)
class SplitTrial:
    """A split and the classes that are too rare for it.

    Attributes:
        split: rows of the parts.
        lacking: maps a class to the requested parts that have no image of it.
        least: smallest `min_images_per_class` with which every part has images of every remaining class; None if no
            class is lacking, or no count is sufficient.
    """

    split: Split
    lacking: dict[str, tuple[str, ...]]
    least: int | None


def try_split(table: LabelTable, settings: SplitSettings) -> SplitTrial:
    """Split like `stratified_split`, but report classes that are too rare instead of raising an error.

    Raises:
        InputError: see `stratified_split`.
    """
    plan = SplitPlan(table, settings)
    split = plan.split()
    missing = plan.missing(table.positives, split)
    columns = zip(table.classes, missing.T, strict=True)
    lacking = {name: tuple(compress(PARTS, parts)) for name, parts in columns if parts.any()}
    return SplitTrial(split, lacking, plan.least_min_images(missing) if lacking else None)


def stratified_folds(table: LabelTable, folds: int, seed: int = 0) -> list[np.ndarray]:
    """Split all rows into stratified folds and return the sorted row numbers of each; given parts are ignored.

    Fold i is the test part of `stratified_split(table, val=0, folds=folds, fold=i, seed=seed)`.

    Raises:
        InputError: there are fewer than 2 folds, or more folds than images.
    """
    plan = SplitPlan(without_parts(table), SplitSettings(folds=folds, seed=seed, val=0))
    return [test for _, test in plan.folds(table.positives)]


def without_parts(table: LabelTable) -> LabelTable:
    """Return the same table without given parts."""
    return replace(table, parts=None, kept=None)


def split_hash(table: LabelTable, settings: SplitSettings | None = None, **options: Any) -> str:
    """Return a digest (64 hex digits) of all that determines the split.

    These are file names, classes, labels, groups, given parts, seed and shares or fold. Digests are equal if and only
    if the splits are.

    Args:
        table: curated labels.
        settings: settings of the split.
        options: see `stratified_split`.
    """
    settings, given = settings or SplitSettings.of(options), given_parts(table)
    digest = sha256()
    test, val, calibration = (
        0.0 if part in given else float(getattr(settings, part)) for part in ("test", "val", "calibration")
    )
    text = f"{test!r} {val!r} {int(settings.seed)}"
    if settings.folds is not None and table.parts is None:
        text = f"fold {int(settings.fold)} of {int(settings.folds)} {val!r} {int(settings.seed)}"
    if calibration:
        text += f" calibration {calibration!r}"
    for part in (*table.file_names, "", *table.classes, "", text):
        digest.update(part.encode(errors="surrogatepass") + b"\0")
    digest.update(np.ascontiguousarray(table.labels).tobytes())
    if (groups := group_numbers(table)) is not None:
        digest.update(groups.tobytes())
        if settings.groups.by is not None:
            digest.update(b"refined 2")  # increase when the refinement gives other splits
    for parts in (table.parts, table.kept):
        if parts is not None:
            digest.update("\0".join(("parts", *parts)).encode())
    return digest.hexdigest()


def _describe_lacking(table: LabelTable, trial: SplitTrial) -> str:
    counts = dict(zip(table.classes, table.counts(), strict=True))
    lacking = trial.lacking.items()
    places = [f"'{name}' ({counts[name]} images) is not in {' and '.join(parts)}" for name, parts in lacking]
    drop = f"drop them with data.min_images_per_class={trial.least}, " if trial.least else ""
    return (
        f"{len(places)} of {len(table.classes)} classes are too rare to be in each part of the split: "
        f"{'; '.join(places)}. Use more images, {drop}change the shares or the seed of parts that are not given, or "
        "continue with data.split.on_missing=warn."
    )
