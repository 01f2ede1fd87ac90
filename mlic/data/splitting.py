"""Stratified splits into train, val and test parts."""

import logging
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit

from mlic.data.grouping import stratify_groups
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice
from mlic.seeds import check_seed

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the parts: disjoint, sorted int64 arrays that together contain all rows.

    Val and test may be empty.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def parts(self) -> dict[str, np.ndarray]:
        """Return the rows of train, val and test by name."""
        return {part: getattr(self, part) for part in PARTS}

    def names(self, num_rows: int | None = None) -> list[str]:
        """Return the name of the part of each row.

        Raises:
            ValueError: `num_rows` is given and is not the number of rows of the split.
        """
        total = sum(map(len, self.parts().values()))
        if num_rows not in (None, total):
            raise ValueError(f"the split has {total} rows, expected {num_rows}")
        part_of_row = np.empty(total, dtype=object)
        for part, rows in self.parts().items():
            part_of_row[rows] = part
        return part_of_row.tolist()


def stratified_split(
    table: LabelTable,
    *,
    test: float = 0.2,
    val: float = 0.1,
    seed: int = 0,
    on_missing: str = "error",
    folds: int | None = None,
    fold: int = 0,
) -> Split:
    """Split by iterative stratification: test is taken from all images, then val from the rest.

    Both fractions refer to all images: 0.2 and 0.1 leave 0.7 for training. Sizes match the fractions only
    approximately, because the shares of the classes have priority (Sechidis et al., On the Stratification of
    Multi-Label Data, 2011).

    Images without labels form a separate stratum. Rows are sorted by file name, so that the same labels give the same
    split. Rows of one group of the table stay in one part, which makes sizes less exact.

    Args:
        table: curated labels.
        test: fraction of all images; 0 leaves the part empty.
        val: fraction of all images; `test + val` must be below 1.
        seed: seed of the shuffle and of ties.
        on_missing: `error` or `warn` if a part has no image of a class.
        folds: number of folds for cross-validation. Fold `fold` is the test part, and the fraction `test` is ignored.
        fold: number of the fold, from 0 to `folds` - 1.

    Returns:
        The rows of the parts.

    Raises:
        InputError: a fraction is out of range, there are too few images, or a part has no image of a class.
    """
    num_test, num_val = part_sizes(
        len(table), test=test, val=val, seed=seed, on_missing=on_missing, folds=folds, fold=fold
    )
    split = _split_rows(table.labels, group_numbers(table), num_test, num_val, seed, folds, fold)
    missing = _missing(table.labels, split, num_test, num_val)
    if missing.any():
        message = _describe_missing(table, missing, num_test, num_val, seed, folds, fold)
        if on_missing == "error":
            raise InputError(message)
        logger.warning(message)
    return split


def part_sizes(
    num_images: int,
    *,
    test: float = 0.2,
    val: float = 0.1,
    seed: int = 0,
    on_missing: str = "error",
    folds: int | None = None,
    fold: int = 0,
) -> tuple[int, int]:
    """Check the settings of `stratified_split` without the labels.

    Returns:
        The intended numbers of test and val images.

    Raises:
        InputError: a setting is out of range, or there are too few images.
    """
    check_choice("data.split.on_missing", on_missing, ("error", "warn"))
    check_seed("data.split.seed", seed)
    if folds is not None:
        test = _check_folds(num_images, folds, fold, val)
    return _sizes(num_images, test, val)


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


def try_split(table: LabelTable, *, on_missing: str = "error", **options: Any) -> SplitTrial:
    """Split like `stratified_split`, but report classes that are too rare instead of raising an error.

    Args:
        table: curated labels.
        on_missing: ignored; accepted so that all settings of `stratified_split` can be passed.
        options: other settings of `stratified_split`.

    Raises:
        InputError: see `part_sizes`.
    """
    num_test, num_val = part_sizes(len(table), on_missing=on_missing, **options)
    seed, folds, fold = options.get("seed", 0), options.get("folds"), options.get("fold", 0)
    split = _split_rows(table.labels, group_numbers(table), num_test, num_val, seed, folds, fold)
    missing = _missing(table.labels, split, num_test, num_val)
    lacking = {
        table.classes[column]: tuple(
            part for part, absent in zip(PARTS, missing[:, column], strict=True) if absent
        )
        for column in np.flatnonzero(missing.any(axis=0))
    }
    least = _least_min_images(table, missing, num_test, num_val, seed, folds, fold) if lacking else None
    return SplitTrial(split, lacking, least)


def stratified_folds(table: LabelTable, folds: int, seed: int = 0) -> list[np.ndarray]:
    """Split all rows into stratified folds and return the sorted row numbers of each.

    Fold i is the test part of `stratified_split(table, val=0, folds=folds, fold=i, seed=seed)`.

    Raises:
        InputError: there are fewer than 2 folds, or more folds than images.
    """
    _check_folds(len(table), folds, 0, 0)
    return [test for _, test in _fold_parts(table.labels, group_numbers(table), folds, seed)]


def split_hash(
    table: LabelTable,
    *,
    test: float,
    val: float,
    seed: int,
    on_missing: str = "error",
    folds: int | None = None,
    fold: int = 0,
) -> str:
    """Return a digest (64 hex digits) of file names, classes, labels, groups, seed and fractions or fold.

    Digests are equal if and only if the splits are. `on_missing` does not affect the split; it is accepted so that all
    settings of `stratified_split` can be passed.
    """
    digest = sha256()
    settings = f"{float(test)!r} {float(val)!r} {int(seed)}"
    if folds is not None:
        settings = f"fold {int(fold)} of {int(folds)} {float(val)!r} {int(seed)}"
    for part in (*table.file_names, "", *table.classes, "", settings):
        digest.update(part.encode(errors="surrogatepass") + b"\0")
    digest.update(np.ascontiguousarray(table.labels).tobytes())
    if (groups := group_numbers(table)) is not None:
        digest.update(groups.tobytes())
    return digest.hexdigest()


def _sizes(num_images: int, test: float, val: float) -> tuple[int, int]:
    """Return the sizes of test and val; a part with a fraction above 0 has at least one image."""
    for name, fraction in (("test", test), ("val", val)):
        if not (isinstance(fraction, int | float) and 0 <= fraction < 1):
            raise InputError(
                f"data.split.{name}={fraction}: expected a share of all images, at least 0 and below 1."
            )
    if test + val >= 1 - 1e-9:
        raise InputError(
            f"data.split.test={test} and data.split.val={val} leave no images for training; lower them."
        )
    num_test, num_val = (max(1, round(part * num_images)) if part else 0 for part in (test, val))
    if num_images - num_test - num_val < 1:
        raise InputError(f"{num_images} images are too few for a split of test={test} and val={val}.")
    return num_test, num_val


def _check_folds(num_images: int, folds: int, fold: int, val: float) -> float:
    """Check the settings of a fold, and return its share of the images."""
    if not 2 <= folds <= num_images:
        raise InputError(f"data.split.folds={folds}: expected from 2 to {num_images}, the number of images.")
    if not 0 <= fold < folds:
        raise InputError(
            f"data.split.fold={fold}: expected from 0 to {folds - 1}, because data.split.folds={folds}."
        )
    if not 0 <= val < 1 - 1 / folds:
        raise InputError(
            f"data.split.val={val}: with data.split.folds={folds} it must be below {1 - 1 / folds:.3g} to leave images "
            "for training."
        )
    return 1 / folds


def group_numbers(table: LabelTable) -> np.ndarray | None:
    """Return the group number of each row, int64 (N,), counted in the order of rows; None without groups."""
    if table.groups is None:
        return None
    _, first, inverse = np.unique(table.groups, return_index=True, return_inverse=True)
    return None if len(first) == len(table) else np.argsort(np.argsort(first))[inverse]


def _split_rows(
    labels: np.ndarray,
    groups: np.ndarray | None,
    num_test: int,
    num_val: int,
    seed: int,
    folds: int | None = None,
    fold: int = 0,
) -> Split:
    if folds is None:
        rest, test = _carve(labels, groups, np.arange(len(labels)), num_test, seed)
    else:
        rest, test = _fold_parts(labels, groups, folds, seed)[fold]
    train, val = _carve(labels, groups, rest, num_val, seed)
    return Split(train, val, test)


def _fold_parts(
    labels: np.ndarray, groups: np.ndarray | None, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (other rows, rows of the fold) for each fold, sorted."""
    if groups is not None:
        parts = stratify_groups(_strata(labels), groups, np.full(folds, 1 / folds), seed)
        return [(np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)) for fold in range(folds)]
    splitter = MultilabelStratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), _strata(labels)))


def _carve(
    labels: np.ndarray, groups: np.ndarray | None, rows: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take about `size` rows from `rows`; return (remaining rows, rows taken), both sorted."""
    if size == 0:
        return rows, rows[:0]
    if size >= len(rows):  # possible, because sizes are approximate
        raise InputError(
            f"{len(labels)} images are too few for this split: val would take {size} of the remaining {len(rows)}. "
            "Lower data.split.test or val, or data.split.folds."
        )
    if groups is not None:
        shares = np.array([len(rows) - size, size]) / len(rows)
        parts = stratify_groups(_strata(labels[rows]), groups[rows], shares, seed)
        return rows[parts == 0], rows[parts == 1]
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1,
        test_size=size,  # pyright: ignore[reportArgumentType]  (its default is the string "default")
        random_state=seed,
    )
    others, taken = next(splitter.split(np.zeros(len(rows)), _strata(labels[rows])))
    return rows[others], rows[taken]


def _strata(labels: np.ndarray) -> np.ndarray:
    """Append a column for images without labels: (N, C + 1).

    The column makes these images a stratum. It also gives a single class the two columns that the splitters require.
    """
    return np.column_stack([labels, ~labels.any(axis=1)])


def _missing(labels: np.ndarray, split: Split, num_test: int, num_val: int) -> np.ndarray:
    """Return bool (3, C), True if the part was requested and none of its images has the class."""
    asked_for = {"train": True, "val": num_val > 0, "test": num_test > 0}
    return np.stack([~labels[rows].any(axis=0) & asked_for[part] for part, rows in split.parts().items()])


def _describe_missing(
    table: LabelTable,
    missing: np.ndarray,
    num_test: int,
    num_val: int,
    seed: int,
    folds: int | None,
    fold: int,
) -> str:
    counts = table.counts()
    places = []
    for part, columns in zip(PARTS, missing, strict=True):
        classes = [f"{table.classes[column]} ({counts[column]} images)" for column in np.flatnonzero(columns)]
        if classes:
            places.append(f"{part} has no images of {', '.join(classes)}")
    least = _least_min_images(table, missing, num_test, num_val, seed, folds, fold)
    remedy = f"Drop rare classes with data.min_images_per_class={least}" if least else "Use more images"
    number = missing.any(axis=0).sum()
    return (
        f"{number} of {len(table.classes)} classes are too rare to be in each part of the split: "
        f"{'; '.join(places)}. {remedy}, change data.split.test, val or seed, "
        "or continue without them in that part with data.split.on_missing=warn."
    )


def _least_min_images(
    table: LabelTable,
    missing: np.ndarray,
    num_test: int,
    num_val: int,
    seed: int,
    folds: int | None,
    fold: int,
) -> int | None:
    """Return the smallest `min_images_per_class` with which every part has every remaining class, or None.

    It is found by trial, because dropping classes changes the split of the other classes.
    """
    counts, least = table.counts(), 0
    while missing.any():
        least = int(counts[missing.any(axis=0)].min()) + 1
        keep = counts >= least
        if not keep.any():
            return None
        split = _split_rows(table.labels[:, keep], group_numbers(table), num_test, num_val, seed, folds, fold)
        missing = np.zeros_like(missing)
        missing[:, keep] = _missing(table.labels[:, keep], split, num_test, num_val)
    return least
