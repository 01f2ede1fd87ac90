"""Collection of the logits of an epoch, so that metrics are computed once over all images."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from mlic.data.sampling import group_size_and_rank


class CollectedScores(NamedTuple):
    """The logits of all images of a split, each image once, ordered by row."""

    rows: np.ndarray  # (N,) int64
    logits: Tensor  # (N, C) float32, on the CPU
    targets: Tensor  # (N, C) float32, -1 where unknown, on the CPU

    @property
    def scores(self) -> np.ndarray:
        """Return the sigmoid of the logits, float32 (N, C)."""
        return torch.sigmoid(self.logits).numpy()


class ScoreCollector:
    """Concatenates the batches of all processes, each row once.

    A distributed sampler pads with duplicates, which are removed by their row numbers.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, rows: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: rows int64 (B,), logits (B, C), targets (B, C)."""
        self._batches.append((rows, logits.detach().float(), targets))

    def collect(self) -> CollectedScores:
        """Return all rows since the last call, in order and without duplicates; called in all processes."""
        own = [torch.cat(parts).cpu() for parts in zip(*self._batches, strict=True)]
        self._batches = []
        processes, _ = group_size_and_rank()
        if processes > 1:
            gathered: list[Any] = [None] * processes
            torch.distributed.all_gather_object(gathered, own)
            own = [torch.cat(parts) for parts in zip(*gathered, strict=True)]
        rows, logits, targets = own
        unique_rows, first = np.unique(rows.numpy(), return_index=True)
        return CollectedScores(unique_rows, logits[first], targets[first])
