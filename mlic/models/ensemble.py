"""Several frozen backbones side by side, as one."""

import hashlib
import inspect
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models.backbone import FrozenBackbone

KEY = "model.backbone.members"
EXAMPLE = "[{name: tf_efficientnet_lite0.in1k}, {name: resnet50.a1_in1k, image_size: 288}]"
OPTIONS = tuple(inspect.signature(FrozenBackbone).parameters)
SEPARATOR = " + "


class EnsembleBackbone(nn.Module):
    """Equivalent to a `FrozenBackbone` whose features are those of its members, flattened, one after the other.

    Members differ in the size of their input: an image is one vector of all that they see of it, uint8 (P,), so that
    batches are collated as those of one backbone. Nothing of it is trained.

    Attributes:
        members: the `FrozenBackbone`s.
        feature_shape: (sum of the members' numbers of features,).
        image_size: sides of their square inputs in pixels.
        resize_size: sides in pixels to which they scale an image before they crop.
        transform: a PIL image (RGB), or one for each member -> uint8 array (P,).
        weights_tag: those of the members.
        weights_digest: sha256 (hex) over the members' digests.
        num_parameters: of all members.
        trained_stages, trained_names: empty.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]], **common: Any) -> None:
        """Check all settings, then load the networks.

        Args:
            members: keyword arguments of `FrozenBackbone`, one mapping for each.
            common: keyword arguments of members that do not set them.

        Raises:
            InputError: no members, settings that are none, `unfreeze`, or `pool="none"`; and as for `FrozenBackbone`.
        """
        settings = _resolve(members, common)
        super().__init__()
        self.members: Any = nn.ModuleList(_build(number, options) for number, options in enumerate(settings))
        self.feature_shape: tuple[int, ...] = (sum(prod(member.feature_shape) for member in self.members),)
        self.image_size = tuple(member.image_size for member in self.members)
        self.resize_size = tuple(member.resize_size for member in self.members)
        self.transform = SideBySide([member.transform for member in self.members])
        self.name = SEPARATOR.join(member.name for member in self.members)
        self.weights_tag = SEPARATOR.join(member.weights_tag for member in self.members)
        digests = "\n".join(member.weights_digest for member in self.members)
        self.weights_digest = hashlib.sha256(digests.encode()).hexdigest()
        self.num_parameters = sum(member.num_parameters for member in self.members)
        self.trained_stages: list[list[str]] = []
        self.trained_names: set[str] = set()
        self.eval()

    @property
    def precision(self) -> str:
        """In which the members compute, one word if it is the same."""
        return _joined(member.precision for member in self.members)

    @property
    def is_optimized(self) -> bool:
        """Whether `optimize_for` was called."""
        return all(member.is_optimized for member in self.members)

    @property
    def identity(self) -> dict[str, Any]:
        """All that determines the features of an image, as JSON types."""
        return {
            "network": self.name,
            "weights": self.weights_digest,
            "pool": _joined(member.pool for member in self.members),
            "precision": self.precision,
            "members": [member.identity for member in self.members],
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """As of `FrozenBackbone`, and the same of each member."""
        members = [
            {key: value for key, value in member.identity.items() if key != "precision"}
            for member in self.members
        ]
        return {"weights_digest": self.weights_digest, "members": members}

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever the mode asked for."""
        return super().train(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """None: nothing is trained."""
        return []

    def augmentation(self, **options: Any) -> "SideBySide":
        """As of `FrozenBackbone`; all members see the image under the same draws."""
        return SideBySide([member.augmentation(**options) for member in self.members], draw_alike=True)

    def optimize_for(self, device: torch.device) -> Self:
        """Choose number and memory format of each member; see `FrozenBackbone.optimize_for`."""
        for member in self.members:
            member.optimize_for(device)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: uint8 (B, P), as `transform` gives them.

        Returns:
            float32 (B, *feature_shape).
        """
        parts = zip(self.members, self._split(images), strict=True)
        return torch.cat([member(part).flatten(1) for member, part in parts], dim=1)

    def _split(self, images: Tensor) -> list[Tensor]:
        """What each member sees, (B, 3, H, W)."""
        shapes = [tuple(member.preprocessing["input_size"]) for member in self.members]
        parts = images.split([prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


Backbone = FrozenBackbone | EnsembleBackbone


class SideBySide:
    """What several transforms make of one image, laid end to end."""

    def __init__(
        self, transforms: Sequence[Callable[[Image.Image], np.ndarray]], *, draw_alike: bool = False
    ) -> None:
        """Take transforms to uint8 arrays; with `draw_alike` each begins with the same random numbers."""
        self.transforms, self.draw_alike = list(transforms), draw_alike

    def __call__(self, image: Image.Image | Sequence[Image.Image]) -> np.ndarray:
        """An image, or one for each transform (decoded for it, see `mlic.data.images.decode`) -> uint8 (P,)."""
        images = [image] * len(self.transforms) if isinstance(image, Image.Image) else image
        start = _random_states() if self.draw_alike else None
        arrays = []
        for transform, picture in zip(self.transforms, images, strict=True):
            if start is not None:
                _set_random_states(*start)
            arrays.append(np.ravel(transform(picture)))
        return np.concatenate(arrays)


def _random_states() -> tuple[Any, Any, Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_random_states(of_python: Any, of_numpy: Any, of_torch: Tensor) -> None:
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.set_rng_state(of_torch)


def _resolve(members: Any, common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of each member, checked before any weights are read."""
    if isinstance(members, str) or not isinstance(members, Sequence):
        raise InputError(f"{KEY}: '{members}' is no list. Expected the settings of each, such as {EXAMPLE}.")
    if not members:
        raise InputError(f"{KEY}: the list is empty. Expected the settings of each, such as {EXAMPLE}.")
    return [_settings(number, member, common) for number, member in enumerate(members)]


def _settings(number: int, member: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(member, Mapping) or not member.get("name"):
        raise InputError(f"{KEY}.{number}: '{member}' names no network. Expected a list such as {EXAMPLE}.")
    settings = {**common, **member}
    unknown = [str(option) for option in settings if option not in OPTIONS]
    if unknown:
        raise InputError(
            f"{_key(number, member, unknown[0])} is no setting of a backbone. Expected some of {', '.join(OPTIONS)}."
        )
    if settings.get("unfreeze"):
        raise InputError(
            f"{_key(number, member, 'unfreeze')}={settings['unfreeze']}: the backbones of an ensemble stay frozen. "
            "Fine-tune one backbone by itself: model=timm model.backbone.name=... model.backbone.unfreeze=..."
        )
    if settings.get("pool") == "none":
        raise InputError(
            f"{_key(number, member, 'pool')}=none keeps feature maps, which differ in size from network to network. "
            "Expected avg, max, avgmax or flatten for an ensemble; heads on maps (csra, attention) take one backbone."
        )
    return settings


def _key(number: int, member: Mapping[str, Any], option: str) -> str:
    """Where a setting was made."""
    return f"{KEY}.{number}.{option}" if option in member else f"model.backbone.{option}"


def _build(number: int, settings: Mapping[str, Any]) -> FrozenBackbone:
    try:
        return FrozenBackbone(**settings)
    except InputError as error:
        raise InputError(f"{KEY}.{number}: {error}") from error


def _joined(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(set(found)) == 1 else SEPARATOR.join(found)
