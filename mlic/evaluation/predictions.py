"""Scores and targets of the images of one split, and their parquet file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mlic.data.table import UNKNOWN
from mlic.errors import InputError
from mlic.evaluation.metrics import check_scores
from mlic.runs.folder import replacing

SCORE, TARGET, FOLD = "score:", "target:", "fold"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The scores of a run and the targets of N images.

    Attributes:
        file_names: names of the images (N,), relative to their folder.
        scores: float32 (N, C).
        targets: int8 (N, C), 1 if the image has the class, 0 if it does not, -1 if it is unknown.
        classes: C names of any characters.
        folds: int64 (N,), of a cross-validation the number of the fold in which each image was tested; else None.

    Raises:
        InputError: shapes do not match, scores are not finite, or targets are not 1, 0 or -1.
    """

    file_names: np.ndarray
    scores: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    folds: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the fields and convert them to the dtypes above."""
        classes = tuple(str(name) for name in self.classes)
        scores, _, _ = check_scores(self.scores, self.targets, classes)
        fields = {
            "classes": classes,
            "scores": scores.astype(np.float32, copy=False),
            "targets": np.asarray(self.targets).astype(np.int8),
            "file_names": np.asarray(self.file_names, dtype=object),
            "folds": None if self.folds is None else np.asarray(self.folds).astype(np.int64),
        }
        for name, value in fields.items():
            if name in ("file_names", "folds") and value is not None and value.shape != (len(scores),):
                raise InputError(
                    f"{name} {value.shape} for {len(scores)} rows of scores: expected one per row."
                )
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.file_names)

    @property
    def positives(self) -> np.ndarray:
        """Bool (N, C), True where the image has the class."""
        return self.targets == 1

    @property
    def known(self) -> np.ndarray:
        """Bool (N, C), True where the label is known."""
        return self.targets != UNKNOWN

    def select(self, rows: np.ndarray | Sequence[int]) -> "Predictions":
        """Return the predictions of some rows (indices or a mask), in this order."""
        folds = None if self.folds is None else self.folds[rows]
        return Predictions(self.file_names[rows], self.scores[rows], self.targets[rows], self.classes, folds)

    def write_parquet(self, path: str | Path) -> None:
        """Write a parquet file atomically.

        Its columns are file_name, fold (of a cross-validation), `score:<class>` float32 and `target:<class>` int8.
        """
        columns = {"file_name": self.file_names.astype(str).astype(object)}
        columns |= {} if self.folds is None else {FOLD: self.folds}
        columns |= {SCORE + name: self.scores[:, index] for index, name in enumerate(self.classes)}
        columns |= {TARGET + name: self.targets[:, index] for index, name in enumerate(self.classes)}
        with replacing(Path(path)) as file:
            pd.DataFrame(columns).to_parquet(file, index=False)

    @classmethod
    def read_parquet(cls, path: str | Path) -> "Predictions":
        """Read a file written by `write_parquet`.

        Raises:
            InputError: the file does not exist, is not parquet, or does not have the columns of predictions.
        """
        try:
            frame = pd.read_parquet(path)
            columns = [str(name) for name in frame.columns if name != FOLD]
            classes = tuple(name.removeprefix(SCORE) for name in columns if name.startswith(SCORE))
            scores, targets = ([start + name for name in classes] for start in (SCORE, TARGET))
            if not classes or columns != ["file_name", *scores, *targets]:
                raise InputError(
                    f"not a predictions file. Expected the columns file_name, '{SCORE}<class>' of each class, then "
                    f"'{TARGET}<class>' of each in the same order"
                )
            return cls(
                frame["file_name"].to_numpy(dtype=object),
                frame[scores].to_numpy(dtype=np.float32),
                frame[targets].to_numpy(dtype=np.float32),
                classes,
                frame[FOLD].to_numpy(dtype=np.int64) if FOLD in frame.columns else None,
            )
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            # pandas does not validate its own metadata in the file
            raise InputError(f"{path}: cannot be read as predictions of a run ({error!r}).") from error
