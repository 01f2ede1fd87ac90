"""Collection of the logits of an epoch, so that metrics are computed once over all images."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric


class CollectedScores(NamedTuple):
    """The logits of all images of a split, each image once, ordered by row."""

    rows: np.ndarray  # (N,) int64
    logits: Tensor  # (N, C) float32, on the CPU
    targets: Tensor  # (N, C) float32, -1 where unknown, on the CPU

    @property
    def scores(self) -> np.ndarray:
        """Return the sigmoid of the logits, float32 (N, C)."""
        return torch.sigmoid(self.logits).numpy()


class ScoreCollector(Metric):
    """Concatenates the batches of all processes, each row once.

    A distributed sampler pads with duplicates, which are removed by their row numbers. torchmetrics gathers the
    states of all processes.
    """

    full_state_update = False
    rows: list[Tensor]
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        for name in ("rows", "logits", "targets"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def _wrap_compute(self, compute: Callable[..., CollectedScores]) -> Callable[..., CollectedScores]:
        """Undo the conversion of the logits of one image and one class to a scalar by torchmetrics."""
        squeezed = super()._wrap_compute(compute)

        @wraps(compute)
        def shaped(*args: Any, **kwargs: Any) -> CollectedScores:
            rows, logits, targets = squeezed(*args, **kwargs)
            return CollectedScores(rows, logits.reshape(len(rows), -1), targets.reshape(len(rows), -1))

        return shaped

    def update(self, rows: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: rows int64 (B,), logits (B, C), targets (B, C)."""
        self.rows.append(rows)
        self.logits.append(logits.detach().float())
        self.targets.append(targets)

    def compute(self) -> CollectedScores:
        """Return all rows since the last reset, in order and without duplicates."""
        rows, logits, targets = (
            (torch.cat(state) if isinstance(state, list) else state).cpu()
            for state in (self.rows, self.logits, self.targets)
        )
        unique_rows, first = np.unique(rows.numpy(), return_index=True)
        keep = torch.from_numpy(first)
        return CollectedScores(unique_rows, logits[keep], targets[keep])
