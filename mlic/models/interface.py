"""The interface of backbones."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

# in checkpoints: information besides the weights, and the names of the trained weights of the backbone
CHECKPOINT_KEY = "mlic"
BACKBONE_PREFIX = "backbone."


class Backbone(nn.Module, ABC):
    """Frozen networks that map images to features: one network, or several with concatenated features.

    The methods that are not abstract describe a backbone that is one network and is not trained.

    Attributes:
        name: timm names of the networks.
        feature_shape: shape of the features of one image: (F,), or (F, h, w) for a feature map.
        num_channels: number of channels of the features; below `feature_shape[0]` only if a map is flattened.
        image_size: side of the square input in pixels; one per network.
        resize_size: side in pixels to which `transform` scales an image before it crops; one per network.
        transform: maps a PIL image (RGB), or one per network, to a uint8 array, the input of one image.
        weights_tag: timm name with the tag of the weights, or `random`.
        weights_digest: sha256 (hex) of the weights.
        weights_license: licence of the weights according to timm; None if unknown, or if they are random.
        num_parameters: number of parameters that the features depend on.
        precision: number format of the network; `auto` before `optimize_for`.
        is_optimized: True after `optimize_for`.
        trained_stages: names of the parameters of each stage that is trained; [] if all are frozen.
    """

    name: str
    feature_shape: tuple[int, ...]
    num_channels: int
    image_size: int | tuple[int, ...]
    resize_size: int | tuple[int, ...]
    transform: Callable[..., np.ndarray]
    weights_tag: str
    weights_digest: str
    weights_license: str | None
    num_parameters: int
    precision: str
    is_optimized: bool
    trained_stages: Sequence[Sequence[str]] = ()

    @property
    def members(self) -> "Sequence[Backbone]":
        """Return the networks whose features are concatenated; each has a feature store of its own."""
        return (self,)

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything that determines the features of an image, as JSON types."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Return the information stored in checkpoints, so that a head is never used with other weights."""
        return {"weights_digest": self.weights_digest}

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Compute features float32 (B, *feature_shape) of a batch of uint8 images from `transform`."""

    @abstractmethod
    def optimize_for(self, device: torch.device) -> Self:
        """Set number format and memory format for a device; called once before the first use."""

    def choose_engine(self, images: Tensor, remembered: Path) -> None:
        """Measure which engine computes features fastest, and use it; called before many images are computed.

        Args:
            images: uint8, some images from `transform`.
            remembered: JSON file in which choices are stored.
        """

    @abstractmethod
    def augmentation(self, **options: Any) -> Callable[..., np.ndarray]:
        """Return a random transform for training, to be used instead of `transform`.

        Args:
            options: options of `timm.data.create_transform`, such as `scale`, `ratio`, `hflip`, `color_jitter`,
                `auto_augment`.
        """

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode for any `mode`, so that the statistics of BatchNorm never change."""
        return super().train(False)

    @property
    def trained_names(self) -> set[str]:
        """Return the names of all tensors in the state dict that training changes."""
        return set()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one parameter group per trained stage for an optimizer; [] for a frozen backbone."""
        return []
