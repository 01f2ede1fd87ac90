"""Heads that look at the feature map, so that each class can find its own place in the photograph."""

from collections.abc import Sequence
from math import ceil, inf

import torch
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models.standardization import Standardization

MOST_HEADS = 64  # of CSRA; the paper's have up to 8, of temperatures that grow


def map_channels(feature_shape: Sequence[int], head: str) -> int:
    """Channels of a feature map.

    Raises:
        InputError: the features are no map.
    """
    if len(feature_shape) != 3:
        raise InputError(
            f"head={head} looks at the feature map, but an image's features have the shape {tuple(feature_shape)}. "
            "Keep the map with model.backbone.pool=none."
        )
    return feature_shape[0]


class CSRAHead(nn.Module):
    """Class-specific residual attention: the average over the map, and the places where the class is found.

    Zhu and Wu, Residual Attention: A Simple but Effective Method for Multi-Label Recognition, 2021, equations 3 to 6:
    with s the scores of a 1x1 convolution at each place, `logit = mean(s) + lambda * sum(softmax(T s) s)`, summed over
    heads of the temperatures 1, 2, ..., and infinity (the maximum) for the last of several. Unlike the paper each class
    has a bias. `weight=0` with one head is average pooling and a linear layer.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_classes: int,
        *,
        num_heads: int = 1,
        weight: float = 0.1,
        dropout: float = 0.0,
        standardize: bool = False,
    ) -> None:
        """Build the convolution.

        Args:
            feature_shape: (F, h, w) of one image's features.
            num_classes: width of the output.
            num_heads: of different temperatures, which share the convolution.
            weight: the paper's lambda.
            dropout: share of the map's values set to 0 in training, in [0, 1).
            standardize: bring each channel to mean 0 and deviation 1 over the training images.

        Raises:
            InputError: features that are no map, no head or more than 64, or a dropout outside [0, 1).
        """
        super().__init__()
        channels = map_channels(feature_shape, "csra")
        if not 1 <= num_heads <= MOST_HEADS:
            raise InputError(f"head.num_heads: {num_heads} is not from 1 to {MOST_HEADS}.")
        _check_dropout(dropout)
        self.weight = weight
        self.temperatures = [1.0] if num_heads == 1 else [*map(float, range(1, num_heads)), inf]
        self.prepare = nn.Sequential(
            Standardization(channels) if standardize else nn.Identity(), nn.Dropout(dropout)
        )
        self.scores = nn.Conv2d(channels, num_classes, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, input: Tensor) -> Tensor:
        """float32 (B, F, h, w) -> logits, float32 (B, C)."""
        scores = self.scores(self.prepare(input)).flatten(2)
        found = sum(self._attended(scores, temperature) for temperature in self.temperatures)
        return len(self.temperatures) * scores.mean(2) + self.weight * found + self.bias

    @staticmethod
    def _attended(scores: Tensor, temperature: float) -> Tensor:
        """(B, C, places) -> (B, C)."""
        if temperature == inf:
            return scores.amax(2)
        return (torch.softmax(temperature * scores, dim=2) * scores).sum(2)


class AttentionHead(nn.Module):
    """One learned query a class, or a group of classes, looks over the map.

    In the manner of ML-Decoder (Ridnik et al., ML-Decoder: Scalable and Versatile Classification Head, 2023), small:
    the map's places are embedded by a linear layer with ReLU; one layer of cross-attention and feed-forward, each with
    residual and LayerNorm; no attention among the queries; each query then gives the logits of its classes.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_classes: int,
        *,
        width: int = 256,
        num_heads: int = 4,
        num_queries: int | None = None,
        dropout: float = 0.1,
        standardize: bool = False,
    ) -> None:
        """Build the layers.

        Args:
            feature_shape: (F, h, w) of one image's features.
            num_classes: width of the output.
            width: of embeddings and queries.
            num_heads: of the attention; must divide `width`.
            num_queries: groups of classes; None for one query a class.
            dropout: inside the layer, and on the embedded map, in [0, 1).
            standardize: bring each channel to mean 0 and deviation 1 over the training images.

        Raises:
            InputError: features that are no map, or settings that do not fit.
        """
        super().__init__()
        channels = map_channels(feature_shape, "attention")
        _check_dropout(dropout)
        if num_heads < 1 or width % num_heads:
            raise InputError(f"head.num_heads: {num_heads} does not divide head.width={width}.")
        if num_queries is not None and num_queries < 1:
            raise InputError(f"head.num_queries: {num_queries} is below 1.")
        queries = min(num_queries or num_classes, num_classes)
        self.num_classes = num_classes
        self.standardize = Standardization(channels) if standardize else nn.Identity()
        self.embed = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Dropout(dropout))
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.attention = nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        classes_each = ceil(num_classes / queries)
        self.weights = nn.Parameter(torch.empty(queries, width, classes_each))
        nn.init.xavier_normal_(self.weights)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, input: Tensor) -> Tensor:
        """float32 (B, F, h, w) -> logits, float32 (B, C)."""
        places = self.embed(self.standardize(input).flatten(2).transpose(1, 2))
        queries = self.queries.expand(len(input), -1, -1)
        seen = self.attention(queries, places, places, need_weights=False)[0]
        queries = self.norms[0](queries + self.dropout(seen))
        queries = self.norms[1](queries + self.dropout(self.feed_forward(queries)))
        logits = torch.einsum("bqw,qwc->bqc", queries, self.weights).flatten(1)
        return logits[:, : self.num_classes] + self.bias


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise InputError(f"head.dropout: {dropout} is not in [0, 1).")
