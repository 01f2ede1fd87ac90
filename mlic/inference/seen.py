"""Fingerprints of the images that trained weights have seen, in their run and in the runs that it started from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlic.inference.checkpoint import SavedRun
from mlic.inference.labelled import read_split


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Fingerprints of seen images; see `fingerprints`.

    Attributes:
        train: int64 (M,), images that the weights were trained on.
        val: int64 (K,), images that the weights were selected on.
        is_whole: False if the weights come from a run that did not record its images.
    """

    train: np.ndarray
    val: np.ndarray
    is_whole: bool = True

    def join(self, start: "SeenImages | None") -> "SeenImages":
        """Add the images of the run that this one started from; None for a run that did not record them."""
        if start is None:
            return SeenImages(self.train, self.val, is_whole=False)
        return SeenImages(
            np.union1d(self.train, start.train),
            np.union1d(self.val, start.val),
            self.is_whole and start.is_whole,
        )

    def plain(self) -> dict[str, Any]:
        """Return tensors and plain values for a checkpoint."""
        return {
            "train": torch.from_numpy(self.train),
            "val": torch.from_numpy(self.val),
            "is_whole": self.is_whole,
        }


def fingerprints(digests: np.ndarray) -> np.ndarray:
    """Return the first 64 bits of hexadecimal digests (N,) as int64 (N,).

    For two sets of a million images each, the probability of any false match is 1 in 18 million.
    """
    numbers = [int(digest or "0", 16) for digest in digests.astype("U16").tolist()]
    return np.array(numbers, dtype=np.uint64).view(np.int64)


def images_seen(saved: SavedRun) -> SeenImages | None:
    """Return the images recorded in a checkpoint or, for old runs, in split.csv; None if neither has them.

    Raises:
        InputError: split.csv cannot be read.
    """
    if saved.seen is not None:
        return SeenImages(saved.seen["train"].numpy(), saved.seen["val"].numpy(), saved.seen["is_whole"])
    split = read_split(saved)
    if split is None or "sha256" not in split.columns:
        return None
    parts = (split.loc[split["split"] == part, "sha256"].to_numpy(str) for part in ("train", "val"))
    return SeenImages(*map(fingerprints, parts), is_whole=saved.config.get("init_from") is None)
