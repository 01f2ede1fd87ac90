"""The distribution of the rows of a table over train, val and test."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

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

    def names(self) -> list[str]:
        """Return the name of the part of each row."""
        part_of_row = np.empty(sum(map(len, self.parts().values())), dtype=object)
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
        for code, part in enumerate(PARTS):
            if self.table.kept is not None:
                codes[self.table.kept == part] = code
        for code, part in enumerate(PARTS[1:], 1):
            if self.table.parts is not None:
                codes[self.table.parts == part] = code
        return codes

    def _check_sizes(self) -> tuple[int, ...]:
        """Return the sizes of the parts in the pool; a part with a share above 0 has at least one image."""
        number, folds, fold = len(self.table), self.num_folds, self.settings.fold
        shares = {part: getattr(self.settings, part) for part in PARTS[1:] if part not in self.given}
        if folds is not None:
            if not 2 <= folds <= number or not 0 <= fold < folds:
                raise InputError(
                    f"data.split.folds={folds}, data.split.fold={fold}: expected 2 to {number} folds, the number of "
                    "images, and the number of one of them, from 0."
                )
            shares["test"] = 1 / folds
        sizes = {part: max(1, round(share * number)) if share else 0 for part, share in shares.items()}
        left = len(self.pool) - sum(sizes.values())
        if left < 1 or sum(shares.values()) > 1 - 1e-9:
            listed = " and ".join(f"data.split.{part}={share:.3g}" for part, share in shares.items() if share)
            raise InputError(
                f"{len(self.pool)} images, without those of given parts, are too few: {listed} leave none for training."
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
        codes = self.codes.copy()
        for code, rows in enumerate((train, val, test, calibration)):
            codes[rows] = code
        return Split.of(codes)

    def folds(self, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (other rows, rows of the fold) for each fold, sorted."""
        assert self.num_folds is not None
        if self.groups is not None:
            parts = self._group_parts(labels, self.pool, np.full(self.num_folds, 1 / self.num_folds))
            return [(np.flatnonzero(parts != k), np.flatnonzero(parts == k)) for k in range(self.num_folds)]
        folds = MultilabelStratifiedKFold(self.num_folds, shuffle=True, random_state=self.settings.seed)
        return list(folds.split(np.zeros(len(labels)), _strata(labels)))

    def _carve(self, labels: np.ndarray, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Take about `size` rows from `rows`; return (remaining rows, rows taken), both sorted."""
        if size == 0:
            return rows, rows[:0]
        if size >= len(rows):  # possible, because sizes are approximate
            raise InputError(
                f"{len(labels)} images are too few for this split: a part would take {size} of the remaining "
                f"{len(rows)}. Lower data.split.test or val, or data.split.folds."
            )
        if self.groups is not None:
            parts = self._group_parts(labels, rows, np.array([len(rows) - size, size]) / len(rows))
            return rows[parts == 0], rows[parts == 1]
        options: dict[str, Any] = {"n_splits": 1, "test_size": size, "random_state": self.settings.seed}
        splitter = MultilabelStratifiedShuffleSplit(**options)
        others, taken = next(splitter.split(np.zeros(len(rows)), _strata(labels[rows])))
        return rows[others], rows[taken]

    def _group_parts(self, labels: np.ndarray, rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Distribute the groups of `rows` over parts with these shares; return the part of each row."""
        wanted = np.outer(shares, _strata(labels[rows]).sum(axis=0))
        parts = self._stratify(labels, rows, wanted, shares * len(rows))
        if len(np.unique(parts)) < len(shares):
            raise InputError(
                "this split has an empty part: copies of an image, and other images of one group, stay in one part, "
                f"and the {len(rows)} images are only {len(np.unique(self._group_of(rows)))} groups. Use more images, "
                "larger data.split.test and val, or fewer data.split.folds."
            )
        return parts

    def _group_of(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.groups is None else self.groups[rows]

    def _stratify(
        self, labels: np.ndarray, rows: np.ndarray, wanted: np.ndarray, wanted_rows: np.ndarray
    ) -> np.ndarray:
        # splits by copies alone, which need no setting, stay those of earlier versions
        refine, strata, seed = self.settings.groups.by is not None, _strata(labels[rows]), self.settings.seed
        return stratify_groups(strata, self._group_of(rows), wanted, wanted_rows, seed, refine=refine)

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
        wanted = np.outer(shares, strata[self.pool].sum(axis=0)) - there
        wanted_rows = shares * len(self.pool) - [(own == code).sum() for code in requested]
        if len(free):
            codes[free] = requested[self._stratify(labels, free, wanted, wanted_rows)]
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
            f"bytes) are divided by the given parts: {len(names)} images, such as '{names[0]}'. Scores may be too high"
        )
        if self.settings.groups.on_divided == "error":
            key = "data.split.groups.on_divided"
            raise InputError(f"{message}. Correct the parts, or accept them with {key}=warn.", key=key)
        logger.warning(message)

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


def _strata(labels: np.ndarray) -> np.ndarray:
    """Append a column for images without labels: (N, C + 1).

    The column makes these images a stratum. It also gives a single class the two columns that the splitters require.
    """
    return np.column_stack([labels, ~labels.any(axis=1)])
