"""k nearest neighbours: what the features tell without any training."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.data.table import UNKNOWN
from mlic.errors import InputError
from mlic.evaluation.ranking import Ranking
from mlic.models.ridge import ClosedFormFit, Gather

CANDIDATES = (5, 10, 20, 50, 100)
QUERY_ROWS = 512  # images whose neighbours are searched at once
CHUNK_ROWS = 8192  # training images that they are compared with at once


class NearestHead(nn.Module):
    """The share of the most similar training images that have a label, with cosine similarity of features.

    One further neighbour, which has each label with its frequency, keeps probabilities away from 0 and 1. It does not
    change the ranking of images. The training features are part of the weights, so that a checkpoint is as large as
    their store.
    """

    features: Tensor
    labels: Tensor
    frequencies: Tensor
    neighbours: Tensor

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_classes: int,
        *,
        neighbours: Sequence[int] | int | None = None,
    ) -> None:
        """Create empty buffers; `fit_closed_form` fills them.

        Args:
            feature_shape: shape of the features of one image.
            num_classes: width of the output.
            neighbours: candidates for the number of neighbours; default: 5, 10, 20, 50 and 100.

        Raises:
            InputError: a candidate is not a whole number above 0.
        """
        super().__init__()
        given = list(CANDIDATES) if neighbours is None else np.ravel(neighbours).tolist()
        if not given or not all(type(value) is int and value > 0 for value in given):
            key = "head.neighbours"
            raise InputError(f"{key}={neighbours}: expected whole numbers above 0.", key=key)
        self.candidates = sorted(set(given))
        self.register_buffer("features", torch.zeros(0, prod(feature_shape), dtype=torch.float16))
        self.register_buffer("labels", torch.zeros(0, num_classes, dtype=torch.int8))
        self.register_buffer("frequencies", torch.zeros(num_classes))
        self.register_buffer("neighbours", torch.tensor(self.candidates[0]))
        self.register_load_state_dict_pre_hook(_make_room)

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits float32 (B, C) of features (B, *feature_shape)."""
        count = int(self.neighbours)
        similarities = self._similarities(_unit_vectors(input))
        return self._shares(similarities.topk(min(count, len(self.features)), dim=1), count).logit()

    @torch.no_grad()
    def fit_closed_form(
        self, gather: Gather, targets: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
    ) -> ClosedFormFit:
        """Store the training images, and choose the number of neighbours by leave-one-out mAP.

        Args:
            gather: returns features (B, *feature_shape) of row numbers (B,), on any device.
            targets: labels (N, C) of 1, 0 and -1 (unknown).
            groups: int (N,), the group of each row; images of the same group are no neighbours.
            seed: not used.
        """
        device, rows = self.labels.device, torch.arange(len(targets))
        chunks = [_unit_vectors(gather(chunk).to(device)).half() for chunk in rows.split(CHUNK_ROWS)]
        self.features = torch.cat(chunks)
        self.labels = torch.from_numpy(targets).to(device, torch.int8)
        known = (self.labels != UNKNOWN).sum(dim=0)
        self.frequencies = ((self.labels == 1).sum(dim=0) + 0.5) / (known + 1)
        group_of = rows.to(device) if groups is None else torch.from_numpy(groups).to(device)
        candidates = [count for count in self.candidates if count < len(rows)] or self.candidates[:1]
        shares = np.empty((len(candidates), *targets.shape), dtype=np.float32)
        for chunk in rows.split(QUERY_ROWS):
            similarities = self._similarities(self.features[chunk].float())
            similarities[group_of[chunk][:, None] == group_of] = -torch.inf
            found = similarities.topk(min(candidates[-1], len(rows)), dim=1)
            for place, count in enumerate(candidates):
                shares[place, chunk.numpy()] = self._shares(found, count).cpu().numpy()
        curve = [
            {"neighbours": float(count), "map": _mean_precision(shares[place], targets)}
            for place, count in enumerate(candidates)
        ]
        best = int(np.argmax([point["map"] for point in curve]))
        self.neighbours = torch.tensor(candidates[best], device=device)
        return ClosedFormFit(curve, candidates[best], shares[best], setting="neighbours")

    def _similarities(self, queries: Tensor) -> Tensor:
        """Return the cosines (B, N) of queries (B, F) and the training images."""
        chunks = self.features.split(CHUNK_ROWS)
        return torch.cat([queries @ chunk.to(queries).T for chunk in chunks], dim=1)

    def _shares(self, nearest: Any, count: int) -> Tensor:
        """Return the share float32 (B, C) of the first neighbours that have a label, among those where it is known.

        Args:
            nearest: similarities and rows (B, k) of training images, the most similar first; -inf for images that are
                not neighbours.
            count: number of neighbours.
        """
        similarities, labels = nearest.values[:, :count], self.labels[nearest.indices[:, :count]]
        known = (labels != UNKNOWN) & (similarities > -torch.inf)[..., None]
        positive = (labels == 1) & known
        return (positive.sum(dim=1) + self.frequencies) / (known.sum(dim=1) + 1)


def _unit_vectors(features: Tensor) -> Tensor:
    return functional.normalize(features.flatten(1).float())


def _mean_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    ranking = Ranking(scores.T, targets.T == 1, len(scores), known=targets.T != UNKNOWN)
    return float(np.nanmean(ranking.summarise()[0]))


def _make_room(head: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the buffers the number of images of a checkpoint."""
    for name in ("features", "labels"):
        if prefix + name in state:
            own, stored = getattr(head, name), state[prefix + name]
            setattr(head, name, own.new_zeros(*stored.shape[:1], *own.shape[1:]))
