"""A frozen timm network as a feature extractor."""

import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn
from torchvision.transforms import Compose

from mlic.errors import InputError, check_choice
from mlic.models.precision import DTYPES, choose_precision
from mlic.models.unfreezing import unfreeze_stages
from mlic.models.weights import load_network

logger = logging.getLogger(__name__)

LONGEST_STRIP = 32
POOLS = ("avg", "max", "avgmax", "flatten", "none")


class FrozenBackbone(nn.Module):
    """A timm network in eval mode without its classifier, followed by pooling.

    It computes timm's `forward_features`, like `include_top=False` in Keras. Parameters get no gradients, and `train()`
    never sets train mode, so that the statistics of BatchNorm do not change. Only with `unfreeze`, the last stages get
    gradients.

    Attributes:
        feature_shape: shape of the features of one image: (F,), or (F, h, w) with `pool="none"`.
        image_size: side of the square input in pixels.
        resize_size: side in pixels to which `transform` scales an image before it crops.
        transform: maps a PIL image (RGB) to a resized and cropped uint8 array (3, image_size, image_size).
        weights_tag: timm name with the tag of the weights, or `random`.
        num_parameters: number of parameters of the layers used by `forward_features`.
        is_optimized: True after `optimize_for`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        pool: str = "avg",
        weights: str | Path | None = None,
        pretrained: bool = True,
        precision: str = "auto",
        image_size: int | None = None,
        crop_mode: str | None = None,
        crop_pct: float | None = None,
        unfreeze: int | str = 0,
        learning_rate: float = 1e-4,
        mirror: bool = False,
    ) -> None:
        """Load the network and probe the shape of its features with one image.

        Args:
            name: timm model name with the tag of its weights.
            pool: `avg`, `max`, `avgmax` (their mean), `flatten`, or `none` (keeps the map).
            weights: local file to load instead of a weights package or the hub.
            pretrained: False for random weights.
            precision: `auto` (see `optimize_for`), `float32`, `bfloat16` or `float16`.
            image_size: side of the input in pixels. Default: the size used in training the weights.
            crop_mode: timm's `center`, `squash` or `border`. Default: the mode used in evaluating the weights.
            crop_pct: share of the side of the resized image that is kept, in (0, 1]. Default: the share used in
                evaluating the weights. `squash` with 1 keeps the whole photograph.
            unfreeze: number of last stages to train, or `all`; the network then computes in float32.
            learning_rate: learning rate of the trained stages.
            mirror: average the features of an image with those of its mirror image, which takes twice the time.

        Raises:
            InputError: network, pool or precision are unknown, crop or stages are invalid, or weights are not found.
        """
        super().__init__()
        check_choice("model.backbone.pool", pool, POOLS)
        self.name, self.pool, self.precision, self.mirror = name, pool, precision, mirror
        self.weights_tag = name if pretrained else "random"
        self.network: Any = load_network(name, weights=weights, pretrained=pretrained).requires_grad_(False)
        self.preprocessing = self._resolve_preprocessing(image_size, crop_mode, crop_pct)
        self.image_size: int = self.preprocessing["input_size"][-1]
        self.resize_size = math.ceil(self.image_size / self.preprocessing["crop_pct"])
        evaluation: Any = create_transform(**self.preprocessing, is_training=False, use_prefetcher=True)
        self.transform: Callable[[Image.Image], np.ndarray] = Compose(
            [keep_middle, *evaluation.transforms, np.asarray]
        )
        self.register_buffer("mean", self._channel_values("mean"), persistent=False)
        self.register_buffer("std", self._channel_values("std"), persistent=False)
        self.pooling = _make_pooling(pool)
        self.compute_dtype, self.is_optimized = torch.float32, False
        map_shape = self._probe_shape(image_size)
        self.feature_shape: tuple[int, ...] = tuple(self.pooling(torch.zeros(1, *map_shape)).shape[1:])
        self.num_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.weights_digest = digest_of(self.network)
        self.trained_stages = unfreeze_stages(self.network, unfreeze)
        self._check_precision_of_training()
        self.learning_rate = learning_rate
        self.eval()

    def _check_precision_of_training(self) -> None:
        if self.trained_stages and self.precision not in ("auto", "float32"):
            raise InputError(
                f"model.backbone.precision={self.precision}: a trained backbone keeps its weights in float32. For "
                "mixed precision, set trainer.precision=bf16-mixed."
            )

    def _resolve_preprocessing(
        self, image_size: int | None, crop_mode: str | None, crop_pct: float | None
    ) -> dict[str, Any]:
        config = resolve_model_data_config(self.network)
        if image_size is not None:
            config["input_size"] = (3, image_size, image_size)
        if crop_mode is not None:
            config["crop_mode"] = crop_mode
        if crop_pct is not None:
            if not 0 < crop_pct <= 1:
                raise InputError(f"model.backbone.crop_pct={crop_pct}: expected a number in (0, 1].")
            config["crop_pct"] = crop_pct
        return config

    def _channel_values(self, key: str) -> Tensor:
        # for uint8 pixels 0..255; the statistics of timm are for 0..1
        return torch.tensor(self.preprocessing[key]).mul(255).view(1, 3, 1, 1)

    def _probe_shape(self, image_size: int | None) -> tuple[int, ...]:
        try:
            return self._probe()
        except (RuntimeError, AssertionError, ValueError) as error:
            if image_size is None:
                raise
            raise InputError(
                f"model.backbone.image_size={image_size}: not supported by '{self.name}' ({error})."
            ) from error

    def _probe(self) -> tuple[int, ...]:
        """Return the shape (C, h, w) of the feature map; drop layers that `forward_features` does not use."""
        used: set[nn.Module] = set()
        hooks = [m.register_forward_hook(lambda m, *_: used.add(m)) for m in self.network.modules()]
        with torch.inference_mode():
            image = torch.zeros(1, *self.preprocessing["input_size"])
            feature_map = self._as_map(self.network.forward_features(image))
        for hook in hooks:
            hook.remove()
        for child_name, child in list(self.network.named_children()):
            # the classifier and layers before it (VGG's dense layers have 9 times the parameters of its convolutions)
            if used.isdisjoint(child.modules()) and next(child.parameters(), None) is not None:
                delattr(self.network, child_name)
        return tuple(feature_map.shape[1:])

    def _as_map(self, features: Tensor) -> Tensor:
        """Reshape the output of any timm network to (B, C, h, w)."""
        if features.ndim == 3:  # transformers: (B, prefix + h * w, C)
            tokens = features[:, getattr(self.network, "num_prefix_tokens", 0) :]
            side = round(tokens.shape[1] ** 0.5)
            return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode for any `mode`, so that the statistics of BatchNorm never change."""
        return super().train(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one parameter group per trained stage for an optimizer; [] for a frozen backbone."""
        return [
            {"params": [self.network.get_parameter(name) for name in stage], "lr": self.learning_rate}
            for stage in self.trained_stages
        ]

    @property
    def trained_names(self) -> set[str]:
        """Return the names of all tensors in the state dict that training changes."""
        return {f"network.{name}" for stage in self.trained_stages for name in stage}

    def augmentation(self, **options: Any) -> Callable[[Image.Image], np.ndarray]:
        """Return the training transform of timm for the input size, to be used instead of `transform`.

        Args:
            options: options of `timm.data.create_transform`, such as `scale`, `ratio`, `hflip`, `color_jitter`,
                `auto_augment`.

        Returns:
            A transform from a PIL image (RGB) to uint8 (3, image_size, image_size), with the generators of torch and
            random.
        """
        kept = {key: self.preprocessing[key] for key in ("input_size", "interpolation", "mean", "std")}
        training: Any = create_transform(**{**kept, **options}, is_training=True, use_prefetcher=True)
        return Compose([*training.transforms, np.asarray])

    def optimize_for(self, device: torch.device) -> Self:
        """Set number format and memory format for a device; called once before the first use.

        The number format is bfloat16 if native, float16 on older GPUs, else float32. The memory format is
        channels-last: convolutions in bfloat16 and this layout were 3 to 5 times as fast as in float32 and NCHW on a
        2-core processor with AVX512-BF16.
        """
        self.precision, reason = choose_precision(self.precision, device)
        if self.trained_stages:
            self.precision, reason = "float32", "it is trained"
        self.compute_dtype, self.is_optimized = DTYPES[self.precision], True
        self.network.to(dtype=self.compute_dtype, memory_format=torch.channels_last)
        logger.info("backbone %s computes in %s, channels-last (%s)", self.name, self.precision, reason)
        return self

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize uint8 images (B, 3, H, W) as the weights expect, in the compute dtype and channels-last."""
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        return pixels.sub_(self.mean).div_(self.std).to(self.compute_dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of images.

        Args:
            images: uint8 (B, 3, H, W), from `transform`.

        Returns:
            Features float32 (B, *feature_shape).
        """
        if self.trained_stages:
            return self._features(images)
        with torch.no_grad():
            return self._features(images)

    def _features(self, images: Tensor) -> Tensor:
        features = self.pooling(self._feature_map(images))
        if not self.mirror:
            return features
        # flipped back, so that positions in both maps correspond to the same position in the photograph
        mirrored = self._feature_map(images.flip(-1)).flip(-1)
        return (features + self.pooling(mirrored)) / 2

    def _feature_map(self, images: Tensor) -> Tensor:
        return self._as_map(self.network.forward_features(self.normalize(images))).float()

    @property
    def provenance(self) -> dict[str, Any]:
        """Return the information stored in checkpoints, so that a head is never used with other weights."""
        return {"weights_digest": self.weights_digest}

    @property
    def identity(self) -> dict[str, Any]:
        """Return everything that determines the features of an image, as JSON types."""
        preprocessing = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.preprocessing.items()
        }
        return {
            "network": self.name,
            "weights": self.weights_digest,
            "preprocessing": preprocessing,
            "pool": self.pool,
            "precision": self.precision,
            # absent by default, so that stores from before this option stay valid
            **({"mirror": True} if self.mirror else {}),
        }


def keep_middle(image: Image.Image) -> Image.Image:
    """Crop an image with an aspect ratio above `LONGEST_STRIP` to its middle, the only part that the network sees.

    If 20,000 x 1 pixels were scaled to the height of the input, the image would have a billion pixels.
    """
    short, long = sorted(image.size)
    if long <= LONGEST_STRIP * short:
        return image
    left, top = (max(0, (side - LONGEST_STRIP * short) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def _make_pooling(pool: str) -> nn.Module:
    if pool == "none":
        return nn.Identity()
    if pool == "flatten":
        return nn.Flatten()
    return SelectAdaptivePool2d(pool_type=pool, flatten=True)


def digest_of(network: nn.Module) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and bytes of the parameters and buffers of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
