"""The distribution of the rows of a table over train, val and test."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit

from mlic.data.split_settings import PARTS, SplitSettings
from mlic.data.stratification import stratify_groups
from mlic.data.table import LabelTable
from mlic.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the parts: disjoint, sorted int64 arrays that together contain all rows.

    Val, test and calibration may be empty.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    calibration: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, codes: np.ndarray) -> Self:
        """Create a split from the part of each row, int64 (N,), as its number in `PARTS`."""
        return cls(*(np.flatnonzero(codes == code) for code in range(len(PARTS))))

    def parts(self) -> dict[str, np.ndarray]:
        """Return the rows of train, val, test and, if it has images, calibration by name."""
        return {part: getattr(self, part) for part in PARTS if part != "calibration" or len(self.calibration)}

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


class SplitPlan:
    """The rows to distribute and the sizes of the parts; checks the settings.

    Attributes:
        pool: rows that are distributed or kept: all, or the training images if parts are given.
        sizes: intended numbers of rows of the pool in the parts, in the order of PARTS.
        given: names of given parts.
    """

    def __init__(self, table: LabelTable, settings: SplitSettings) -> None:
        self.table, self.settings = table, settings
        self.groups, self.given = group_numbers(table), given_parts(table)
        self.num_folds = settings.folds if table.parts is None else None
        self.pool = np.arange(len(table)) if table.parts is None else np.flatnonzero(table.parts == "train")
        self.sizes = self._check_sizes()
        if self.groups is not None and (self.codes >= 0).any():
            self._check_groups(self.groups)

    @cached_property
    def codes(self) -> np.ndarray:
        """Part of each row as its number in PARTS, as far as it is given or kept; else -1."""
        codes = np.full(len(self.table), -1)
        for given in (self.table.kept, self.table.parts):
            for code, part in enumerate(PARTS):
                if given is not None and (part != "train" or given is self.table.kept):
                    codes[given == part] = code
        return codes

    def _check_sizes(self) -> tuple[int, ...]:
        """Return the sizes of the parts in the pool; a part with a share above 0 has at least one image."""
        shares = {
            part: getattr(self.settings, part)
            for part in ("test", "val", "calibration")
            if part not in self.given
        }
        listed = [
            f"data.split.{name}={share}" for name, share in shares.items() if share or name != "calibration"
        ]
        if self.num_folds is not None:
            _check_folds(len(self.table), self.num_folds, self.settings.fold)
            shares["test"], listed[0] = 1 / self.num_folds, f"data.split.folds={self.num_folds}"
        sizes = {
            name: max(1, round(share * len(self.table))) if share else 0 for name, share in shares.items()
        }
        left = len(self.pool) - sum(sizes.values())
        if left < 1 or sum(shares.values()) > 1 - 1e-9:
            given = f" (without the given {' and '.join(self.given)} images)" if self.given else ""
            raise InputError(
                f"{len(self.pool)} images{given} are too few: {' and '.join(listed) or 'the given parts'} leave none "
                "for training."
            )
        return left, *(sizes.get(part, 0) for part in PARTS[1:])

    def split(self, columns: np.ndarray | slice = slice(None)) -> Split:
        """Split by the labels of some classes."""
        labels = self.table.positives[:, columns]
        if self.table.kept is not None:
            return self._extend(labels)
        _, num_val, num_test, num_calibration = self.sizes
        if self.num_folds is None:
            rest, test = self._carve(labels, self.pool, num_test)
        else:
            rest, test = self.folds(labels)[self.settings.fold]
        rest, val = self._carve(labels, rest, num_val)
        train, calibration = self._carve(labels, rest, num_calibration)
        drawn = (train, val, test, calibration)
        codes = self.codes.copy()
        for code, rows in enumerate(drawn):
            codes[rows] = code
        return Split.of(codes)

    def folds(self, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (other rows, rows of the fold) for each fold, sorted."""
        assert self.num_folds is not None
        if self.groups is not None:
            parts = self._group_parts(labels, self.pool, np.full(self.num_folds, 1 / self.num_folds))
            return [
                (np.flatnonzero(parts != fold), np.flatnonzero(parts == fold))
                for fold in range(self.num_folds)
            ]
        splitter = MultilabelStratifiedKFold(
            n_splits=self.num_folds, shuffle=True, random_state=self.settings.seed
        )
        return list(splitter.split(np.zeros(len(labels)), _strata(labels)))

    def _carve(self, labels: np.ndarray, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Take about `size` rows from `rows`; return (remaining rows, rows taken), both sorted."""
        if size == 0:
            return rows, rows[:0]
        if size >= len(rows):  # possible, because sizes are approximate
            raise InputError(
                f"{len(labels)} images are too few for this split: val would take {size} of the remaining {len(rows)}. "
                "Lower data.split.test or val, or data.split.folds."
            )
        if self.groups is not None:
            parts = self._group_parts(labels, rows, np.array([len(rows) - size, size]) / len(rows))
            return rows[parts == 0], rows[parts == 1]
        splitter = MultilabelStratifiedShuffleSplit(
            n_splits=1,
            test_size=size,  # pyright: ignore[reportArgumentType]  (its default is the string "default")
            random_state=self.settings.seed,
        )
        others, taken = next(splitter.split(np.zeros(len(rows)), _strata(labels[rows])))
        return rows[others], rows[taken]

    def _group_parts(self, labels: np.ndarray, rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Distribute the groups of `rows` over parts with these shares; return the part of each row."""
        assert self.groups is not None
        strata, groups = _strata(labels[rows]), self.groups[rows]
        parts = stratify_groups(
            strata,
            groups,
            np.outer(shares, strata.sum(axis=0)),
            shares * len(rows),
            self.settings.seed,
            # splits by copies alone, which need no setting, stay those of earlier versions
            refine=self.settings.groups.by is not None,
        )
        if len(np.unique(parts)) < len(shares):
            raise InputError(
                "this split has an empty part: copies of an image, and other images of one group, stay in one part, "
                f"and the {len(rows)} images are only {len(np.unique(groups))} groups. Use more images, larger "
                "data.split.test and val, or fewer data.split.folds."
            )
        return parts

    def _extend(self, labels: np.ndarray) -> Split:
        """Keep the parts of an earlier split, and distribute the other rows of the pool."""
        codes = self.codes.copy()
        if self.groups is not None:  # new rows follow the part that most kept rows of their group have
            counts = np.zeros((len(codes), len(PARTS)), dtype=np.int64)
            kept = self.pool[codes[self.pool] >= 0]
            np.add.at(counts, (self.groups[kept], codes[kept]), 1)
            follows = self.pool[(codes[self.pool] < 0) & counts[self.groups[self.pool]].any(axis=1)]
            codes[follows] = counts[self.groups[follows]].argmax(axis=1)
        strata, sizes = _strata(labels), np.array(self.sizes)
        own, free = codes[self.pool], self.pool[codes[self.pool] < 0]
        requested = np.flatnonzero(sizes)
        shares = sizes[requested] / len(self.pool)
        there = np.stack([strata[self.pool[own == code]].sum(axis=0) for code in requested])
        if len(free):
            codes[free] = requested[
                stratify_groups(
                    strata[free],
                    free if self.groups is None else self.groups[free],
                    np.outer(shares, strata[self.pool].sum(axis=0)) - there,
                    shares * len(self.pool) - [(own == code).sum() for code in requested],
                    self.settings.seed,
                    refine=self.settings.groups.by is not None,
                )
            ]
        return Split.of(codes)

    def _check_groups(self, groups: np.ndarray) -> None:
        """Check that no group is divided by given or kept parts."""
        in_pool = np.isin(np.arange(len(groups)), self.pool)
        parts = pd.DataFrame({"part": np.where(self.codes < 0, np.nan, self.codes), "in_pool": in_pool})
        # several parts, or training images beside those of a given val or test part
        divided = (parts.groupby(groups).nunique() > 1).any(axis=1).to_numpy()
        if not divided.any():
            return
        names = self.table.file_names[divided[groups]]
        message = (
            f"{divided.sum()} of {len(divided)} groups of images that belong together (such as files of the same "
            f"bytes) are divided by the given parts: {len(names)} images, such as '{names[0]}'"
        )
        if self.settings.groups.on_divided == "error":
            raise InputError(
                f"{message}. Correct the parts, or accept them with data.split.groups.on_divided=warn.",
                key="data.split.groups.on_divided",
            )
        logger.warning("%s. Scores of val and test may be too high.", message)

    def missing(self, labels: np.ndarray, split: Split) -> np.ndarray:
        """Return bool (4, C), True if the part was requested and none of its images has the class.

        Calibration does without rare classes: nothing is guaranteed for them.
        """
        missing = np.zeros((len(PARTS), labels.shape[1]), dtype=bool)
        for code, part in enumerate(PARTS[:3]):
            rows = getattr(split, part)
            missing[code] = ~labels[rows].any(axis=0) & bool(self.sizes[code] or len(rows))
        return missing

    def least_min_images(self, missing: np.ndarray) -> int | None:
        """Return the smallest `min_images_per_class` with which every part has every remaining class, or None.

        It is found by trial, because dropping classes changes the split of the other classes.
        """
        counts, least = self.table.counts(), 0
        while missing.any():
            least = int(counts[missing.any(axis=0)].min()) + 1
            keep = counts >= least
            if not keep.any():
                return None
            missing = np.zeros_like(missing)
            missing[:, keep] = self.missing(self.table.positives[:, keep], self.split(keep))
        return least


def group_numbers(table: LabelTable) -> np.ndarray | None:
    """Return the group number of each row, int64 (N,), counted in the order of rows; None without groups."""
    if table.groups is None:
        return None
    _, first, inverse = np.unique(table.groups, return_index=True, return_inverse=True)
    return None if len(first) == len(table) else np.argsort(np.argsort(first))[inverse]


def given_parts(table: LabelTable) -> tuple[str, ...]:
    """Return the names of the parts that the table gives, apart from those of an earlier split."""
    return () if table.parts is None else tuple(part for part in PARTS if part in table.parts)


def _check_folds(num_images: int, folds: int, fold: int) -> None:
    if not 2 <= folds <= num_images:
        raise InputError(f"data.split.folds={folds}: expected from 2 to {num_images}, the number of images.")
    if not 0 <= fold < folds:
        raise InputError(
            f"data.split.fold={fold}: expected from 0 to {folds - 1}, because data.split.folds={folds}."
        )


def _strata(labels: np.ndarray) -> np.ndarray:
    """Append a column for images without labels: (N, C + 1).

    The column makes these images a stratum. It also gives a single class the two columns that the splitters require.
    """
    return np.column_stack([labels, ~labels.any(axis=1)])
