"""Several frozen backbones whose features are concatenated."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models.backbone import FrozenBackbone
from mlic.models.interface import Backbone

KEY = "model.backbone.members"
EXAMPLE = "[{name: tf_efficientnet_lite0.in1k}, {name: resnet50.a1_in1k, image_size: 288}]"
SEPARATOR = " + "


class EnsembleBackbone(Backbone):
    """A backbone whose features are the flattened and concatenated features of its members.

    Members have different input sizes. An image is therefore one vector uint8 (P,) of the inputs of all members, so
    that batches are collated as for a single backbone. All weights are frozen.

    Attributes: see `Backbone`.
    """

    image_size: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    resize_size: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, members: Sequence[Mapping[str, Any]], **common: Any) -> None:
        """Check all settings, then load the networks.

        Args:
            members: keyword arguments of `FrozenBackbone`, one mapping per member.
            common: defaults of keyword arguments.

        Raises:
            InputError: there are no members, settings are unknown, `unfreeze` or a pool that keeps maps is set, or
                an error of `FrozenBackbone`.
        """
        if not members:
            raise InputError(f"{KEY}: the list is empty. Expected settings such as {EXAMPLE}.")
        settings = [_settings(number, member, common) for number, member in enumerate(members)]
        super().__init__()
        self.networks = nn.ModuleList(_build(number, options) for number, options in enumerate(settings))
        self.feature_shape = (sum(prod(member.feature_shape) for member in self.members),)
        self.num_channels = self.feature_shape[0]
        self.image_size = tuple(member.image_size for member in self.members)
        self.resize_size = tuple(member.resize_size for member in self.members)
        self.transform = SideBySide([member.transform for member in self.members])
        self.name = SEPARATOR.join(member.name for member in self.members)
        self.weights_tag = SEPARATOR.join(member.weights_tag for member in self.members)
        digests = "\n".join(member.weights_digest for member in self.members)
        self.weights_digest = hashlib.sha256(digests.encode()).hexdigest()
        self.num_parameters = sum(member.num_parameters for member in self.members)
        licenses = [member.weights_license for member in self.members]
        self.weights_license = _joined(str(license) for license in licenses) if any(licenses) else None
        self.precision, self.is_optimized = _joined(member.precision for member in self.members), False
        self.eval()

    @property
    def members(self) -> Sequence[FrozenBackbone]:
        """Return the networks in their order."""
        return list(self.networks)  # pyright: ignore[reportReturnType]

    @property
    def identity(self) -> dict[str, Any]:
        """Return everything that determines the features of an image, as JSON types."""
        return {
            "network": self.name,
            "weights": self.weights_digest,
            "pool": _joined(member.pool for member in self.members),
            "precision": self.precision,
            "members": [member.identity for member in self.members],
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """Return the information stored in checkpoints, including that of each member."""
        members = [
            {key: value for key, value in member.identity.items() if key != "precision"}
            for member in self.members
        ]
        return {"weights_digest": self.weights_digest, "members": members}

    def augmentation(self, **options: Any) -> "SideBySide":
        """Return the training transform, see `FrozenBackbone`, with the same random draws for all members."""
        return SideBySide([member.augmentation(**options) for member in self.members], draw_alike=True)

    def optimize_for(self, device: torch.device) -> Self:
        """Set number format and memory format of each member; see `FrozenBackbone.optimize_for`."""
        members = [member.optimize_for(device) for member in self.members]
        self.precision, self.is_optimized = _joined(member.precision for member in members), True
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of images.

        Args:
            images: uint8 (B, P), from `transform`.

        Returns:
            Features float32 (B, *feature_shape).
        """
        parts = zip(self.members, self._split(images), strict=True)
        return torch.cat([member(part).flatten(1) for member, part in parts], dim=1)

    def _split(self, images: Tensor) -> list[Tensor]:
        """Return the input of each member, (B, 3, H, W)."""
        shapes = [tuple(member.preprocessing["input_size"]) for member in self.members]
        parts = images.split([prod(shape) for shape in shapes], dim=1)
        # not unflatten, of which an export to ONNX records the number of images as constant
        return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


class SideBySide:
    """The concatenated results of several transforms of one image."""

    def __init__(
        self, transforms: Sequence[Callable[[Image.Image], np.ndarray]], *, draw_alike: bool = False
    ) -> None:
        """Combine transforms to uint8 arrays; with `draw_alike`, all begin with the same random state."""
        self.transforms, self.draw_alike = list(transforms), draw_alike

    def __call__(self, image: Image.Image | Sequence[Image.Image]) -> np.ndarray:
        """Transform an image, or one per transform (see `mlic.data.images.open_at_sizes`), to uint8 (P,)."""
        images = [image] * len(self.transforms) if isinstance(image, Image.Image) else image
        pairs = zip(self.transforms, images, strict=True)
        if not self.draw_alike:
            return np.concatenate([np.ravel(transform(picture)) for transform, picture in pairs])
        from lightning.pytorch.utilities.seed import isolate_rng  # predictions need not wait for Lightning

        arrays = []
        for transform, picture in pairs:
            is_last = len(arrays) == len(self.transforms) - 1
            # not of a GPU, which a worker process cannot use
            with nullcontext() if is_last else isolate_rng(include_cuda=False):
                arrays.append(np.ravel(transform(picture)))
        return np.concatenate(arrays)


def _settings(number: int, member: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a member, checked before any weights are read."""
    key = f"{KEY}.{number}"
    try:
        settings = {**common, **member}
        inspect.signature(FrozenBackbone).bind(**settings)
    except TypeError as error:
        raise InputError(f"{key}={member}: {error}. Expected a list such as {EXAMPLE}.") from error
    if settings.get("unfreeze"):
        raise InputError(
            f"{key}.unfreeze={settings['unfreeze']}: the backbones of an ensemble stay frozen. Fine-tune one backbone "
            "by itself: model=timm model.backbone.name=... model.backbone.unfreeze=..."
        )
    if settings.get("pool") in ("none", "grid7"):
        raise InputError(
            f"{key}.pool={settings['pool']} keeps feature maps, which an ensemble does not concatenate. Set another "
            "pool, such as auto; heads on maps (csra, attention) take one backbone."
        )
    return settings


def _build(number: int, settings: Mapping[str, Any]) -> FrozenBackbone:
    try:
        return FrozenBackbone(**settings)
    except InputError as error:
        raise InputError(f"{KEY}.{number}: {error}", key=error.key) from error


def _joined(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(set(found)) == 1 else SEPARATOR.join(found)
