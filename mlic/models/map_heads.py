"""Heads on the feature map, in which each class can attend to its own region of the photograph."""

from collections.abc import Sequence
from math import ceil, inf

import torch
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models.heads import check_dropout
from mlic.models.standardization import Standardization

MOST_HEADS = 64  # of CSRA, with increasing temperatures; the paper uses up to 8


def map_channels(feature_shape: Sequence[int], head: str) -> int:
    """Return the number of channels of a feature map.

    Raises:
        InputError: the features are not a map.
    """
    if len(feature_shape) != 3:
        raise InputError(
            f"head={head} requires the feature map, but the features of an image have shape {tuple(feature_shape)}. "
            "Set model.backbone.pool=none, or grid7 for 7 x 7 positions."
        )
    return feature_shape[0]


class CSRAHead(nn.Module):
    """Class-specific residual attention: average pooling plus attention to the positions of each class.

    Zhu and Wu, Residual Attention: A Simple but Effective Method for Multi-Label Recognition, 2021, equations 3 to 6:
    with the scores s of a 1x1 convolution at each position, `logit = mean(s) + lambda * sum(softmax(T s) s)`, summed
    over heads with temperatures 1, 2, ..., and infinity (the maximum) for the last of several. Unlike in the paper,
    each class has a bias. `weight=0` with one head is average pooling and a linear layer.
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
            num_heads: number of heads with different temperatures, which share the convolution.
            weight: lambda of the paper.
            dropout: share of the values of the map set to 0 in training, in [0, 1).
            standardize: bring each channel to mean 0 and deviation 1 over the training images.

        Raises:
            InputError: the features are not a map, `num_heads` is not from 1 to 64, or `dropout` is outside [0, 1).
        """
        super().__init__()
        channels = map_channels(feature_shape, "csra")
        if not 1 <= num_heads <= MOST_HEADS:
            raise InputError(f"head.num_heads={num_heads}: expected from 1 to {MOST_HEADS}.")
        check_dropout(dropout)
        self.weight = weight
        self.temperatures = [1.0] if num_heads == 1 else [*map(float, range(1, num_heads)), inf]
        first = Standardization(channels) if standardize else nn.Identity()
        self.prepare = nn.Sequential(first, nn.Dropout(dropout))
        self.scores = nn.Conv2d(channels, num_classes, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, input: Tensor) -> Tensor:
        """float32 (B, F, h, w) -> logits, float32 (B, C)."""
        scores = self.scores(self.prepare(input)).flatten(2)
        attended = [
            scores.amax(2)
            if temperature == inf
            else (torch.softmax(temperature * scores, dim=2) * scores).sum(2)
            for temperature in self.temperatures
        ]
        return len(attended) * scores.mean(2) + self.weight * sum(attended) + self.bias


class AttentionHead(nn.Module):
    """Attention of one learned query per class, or per group of classes, to the feature map.

    A small variant of ML-Decoder (Ridnik et al., ML-Decoder: Scalable and Versatile Classification Head, 2023): a
    linear layer with ReLU embeds the positions of the map, followed by one layer of cross-attention and feed-forward,
    each with residual and LayerNorm, without self-attention of the queries. Each query then returns the logits of its
    classes.
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
            width: width of embeddings and queries.
            num_heads: number of attention heads; must divide `width`.
            num_queries: number of groups of classes; None for one query per class.
            dropout: dropout in the layer and on the embedded map, in [0, 1).
            standardize: bring each channel to mean 0 and deviation 1 over the training images.

        Raises:
            InputError: the features are not a map, or settings are invalid.
        """
        super().__init__()
        channels = map_channels(feature_shape, "attention")
        check_dropout(dropout)
        if num_heads < 1 or width % num_heads:
            raise InputError(f"head.num_heads={num_heads}: must divide head.width={width}.")
        if num_queries is not None and num_queries < 1:
            raise InputError(f"head.num_queries={num_queries}: expected a number of at least 1.")
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
        # not len(), which a trace would record as constant
        queries = self.queries.expand(input.shape[0], -1, -1)
        seen = self.attention(queries, places, places, need_weights=False)[0]
        queries = self.norms[0](queries + self.dropout(seen))
        queries = self.norms[1](queries + self.dropout(self.feed_forward(queries)))
        logits = torch.einsum("bqw,qwc->bqc", queries, self.weights).flatten(1)
        return logits[:, : self.num_classes] + self.bias
