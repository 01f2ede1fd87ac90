"""The images that trained weights have seen, by content, in their run and in all runs that it started from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlic.inference.checkpoint import SavedRun
from mlic.inference.labelled import read_split


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Fingerprints of images, see `fingerprints`.

    Attributes:
        train: (M,) int64, of images that the weights were trained on.
        val: (K,) int64, of images by which weights were chosen.
        is_whole: False where the weights come from a run that does not tell its images.
    """

    train: np.ndarray
    val: np.ndarray
    is_whole: bool = True

    def join(self, start: "SeenImages | None") -> "SeenImages":
        """These and those of the run that this one started from; None for a run that does not tell."""
        if start is None:
            return SeenImages(self.train, self.val, is_whole=False)
        return SeenImages(
            np.union1d(self.train, start.train),
            np.union1d(self.val, start.val),
            self.is_whole and start.is_whole,
        )

    def plain(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        return {
            "train": torch.from_numpy(self.train),
            "val": torch.from_numpy(self.val),
            "is_whole": self.is_whole,
        }


def fingerprints(digests: np.ndarray) -> np.ndarray:
    """The first 64 bits of hexadecimal digests (N,): (N,) int64.

    Among a million images of each of two sets, one is taken for another with a probability of 1 in 18 million.
    """
    numbers = [int(digest or "0", 16) for digest in digests.astype("U16").tolist()]
    return np.array(numbers, dtype=np.uint64).view(np.int64)


def images_seen(saved: SavedRun) -> SeenImages | None:
    """What a checkpoint holds of them; of a run before it did, what split.csv tells. None where neither does.

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
