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
from torch import Tensor, nn
from torchvision.transforms import Compose

from mlic.errors import InputError, check_choice
from mlic.models.engines import ENGINES, ONNX, Engine, fastest_engine, has_onnxruntime, onnx_engine
from mlic.models.engines import KEY as ENGINE_KEY
from mlic.models.interface import Backbone
from mlic.models.pooling import KEY, POOLS, name_of_auto, read_out, to_map
from mlic.models.precision import DTYPES, choose_precision
from mlic.models.quantization import CALIBRATION, calibration_images
from mlic.models.unfreezing import unfreeze_stages
from mlic.models.weights import load_network

logger = logging.getLogger(__name__)

CROP_MODES = ("center", "squash", "border")
LONGEST_STRIP = 32


class FrozenBackbone(Backbone):
    """A timm network in eval mode without its classifier, followed by pooling.

    Parameters get no gradients, and `train()` never sets train mode, so that the statistics of BatchNorm do not change.
    Only with `unfreeze`, the last stages get gradients.

    Attributes:
        pool: the pooling; the name of one that equals `auto` instead of `auto`, if there is one.
        preprocessing: timm's data config: input size, mean, std, interpolation and crop.
        Others: see `Backbone`.
    """

    image_size: int  # pyright: ignore[reportIncompatibleVariableOverride]
    resize_size: int  # pyright: ignore[reportIncompatibleVariableOverride]
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        pool: str = "auto",
        weights: str | Path | None = None,
        pretrained: bool = True,
        precision: str = "auto",
        image_size: int | None = None,
        crop_mode: str | None = None,
        crop_pct: float | None = None,
        unfreeze: int | str = 0,
        learning_rate: float = 1e-4,
        mirror: bool = False,
        engine: str = "auto",
    ) -> None:
        """Load the network and probe the shape of its features with one image.

        Args:
            name: timm model name with the tag of its weights.
            pool: `auto` (what timm passes to the classifier), `cls` (class token), `avg`, `cls_avg` (both), `map` (the
                attention pooling of the network), `max`, `avgmax` (mean of average and maximum), `flatten`, `none`
                (keeps the map) or `grid7` (the map averaged to 7 x 7).
            weights: local file to load instead of a weights package or the hub.
            pretrained: False for random weights.
            precision: `auto` (see `optimize_for`), `float32`, `bfloat16`, `float16`, or `int8`: 8-bit integers by ONNX
                Runtime on a CPU, faster and less accurate.
            image_size: side of the input in pixels; position embeddings are interpolated by timm. Default: the size
                used in training the weights.
            crop_mode: timm's `center`, `squash` or `border`. Default: the mode used in evaluating the weights.
            crop_pct: share of the side of the resized image that is kept, in (0, 1]. Default: the share used in
                evaluating the weights. `squash` with 1 keeps the whole photograph.
            unfreeze: number of last stages to train, or `all`; the network then computes in float32.
            learning_rate: learning rate of the trained stages.
            mirror: average the features of an image with those of its mirror image, which takes twice the time.
            engine: `torch`, `onnxruntime` (on a CPU, in float32), or `auto`: the faster, see `choose_engine`.

        Raises:
            InputError: network, pool or precision are unknown, pool or input size do not suit the network, crop or
                stages are invalid, or weights are not found.
        """
        super().__init__()
        check_choice(KEY, pool, POOLS)
        check_choice(ENGINE_KEY, engine, ENGINES)
        if unfreeze and precision not in ("auto", "float32"):
            raise InputError(
                f"model.backbone.precision={precision}: a trained backbone keeps its weights in float32. For mixed "
                "precision, set trainer.precision=bf16-mixed."
            )
        self.name, self.pool, self.precision, self.mirror, self.engine = name, pool, precision, mirror, engine
        self.weights_tag, self.learning_rate = name if pretrained else "random", learning_rate
        self.compute_dtype, self.is_optimized = torch.float32, False
        self._run: Engine | None = None
        try:
            network = load_network(name, weights=weights, pretrained=pretrained, image_size=image_size)
            self.network: Any = network.requires_grad_(False)
            self._set_preprocessing(crop_mode, crop_pct)
            self._probe()
        except InputError:
            raise
        except (RuntimeError, AssertionError, ValueError, ArithmeticError) as error:
            if image_size is None:
                raise
            raise InputError(
                f"model.backbone.image_size={image_size}: not supported by '{name}' ({error})."
            ) from error
        self.weights_license = self.network.pretrained_cfg.get("license") if pretrained else None
        self.num_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.weights_digest = digest_of(self.network)
        self.trained_stages = unfreeze_stages(self.network, unfreeze)
        self.eval()

    def _set_preprocessing(self, crop_mode: str | None, crop_pct: float | None) -> None:
        if crop_pct is not None and not 0 < crop_pct <= 1:
            raise InputError(f"model.backbone.crop_pct={crop_pct}: expected a number in (0, 1].")
        if crop_mode is not None:  # timm takes center for any other word
            check_choice("model.backbone.crop_mode", crop_mode, CROP_MODES)
        given = {"crop_mode": crop_mode, "crop_pct": crop_pct}
        config = resolve_model_data_config(self.network)
        self.preprocessing = config | {key: value for key, value in given.items() if value is not None}
        height, width = self._input_size = self.preprocessing["input_size"][1:]
        self.image_size = width
        self.resize_size = math.ceil(max(height, width) / self.preprocessing["crop_pct"])
        evaluation: Any = create_transform(**self.preprocessing, is_training=False, use_prefetcher=True)
        self.transform: Callable[[Image.Image], np.ndarray] = Compose(
            [keep_middle, *evaluation.transforms, np.asarray]
        )
        for key in ("mean", "std"):
            # for uint8 pixels 0..255; the statistics of timm are for 0..1
            values = torch.tensor(self.preprocessing[key]).mul(255).view(1, 3, 1, 1)
            self.register_buffer(key, values, persistent=False)

    @torch.no_grad()
    def _probe(self) -> None:
        """Resolve `auto`, set shapes, and drop the layers on which the features do not depend."""
        used: set[nn.Module] = set()
        hooks = [m.register_forward_hook(lambda m, *_: used.add(m)) for m in self.network.modules()]
        # noise, because all poolings of a uniform image are equal
        image = torch.rand(1, *self.preprocessing["input_size"], generator=torch.Generator().manual_seed(0))
        output = self._output(image)
        of_output = set(used)
        if self.pool == "auto":
            self.pool = name_of_auto(self.network, output, self._input_size)
        used.clear()
        features = self.read_out(output)
        for hook in hooks:
            hook.remove()
        self.feature_shape = tuple(features.shape[1:])
        flattened = self.pool == "flatten"
        self.num_channels = self.to_map(output).shape[1] if flattened else self.feature_shape[0]
        self._drop_unused(of_output | used)

    def _drop_unused(self, used: set[nn.Module]) -> None:
        """Drop the classifier and unused layers before it: VGG's have 9 times the parameters of its convolutions."""
        classifier = self.network.get_classifier()
        for parent in list(self.network.modules()):
            for name, child in list(parent.named_children()):
                # only these, because other layers may use parameters of their parts without calling them
                droppable = parent is self.network or child is classifier
                has_parameters = next(child.parameters(), None) is not None
                if droppable and has_parameters and used.isdisjoint(child.modules()):
                    delattr(parent, name)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one parameter group per trained stage, with the learning rate of the backbone."""
        return [
            {"params": [self.network.get_parameter(name) for name in stage], "lr": self.learning_rate}
            for stage in self.trained_stages
        ]

    @property
    def trained_names(self) -> set[str]:
        """Return the names of all tensors in the state dict that training changes."""
        return {f"network.{name}" for stage in self.trained_stages for name in stage}

    def augmentation(self, **options: Any) -> Callable[[Image.Image], np.ndarray]:
        """Return the training transform of timm for the input size; see `Backbone.augmentation`.

        It maps a PIL image (RGB) to uint8 (3, image_size, image_size), and draws from the generators of torch and
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
        if self.precision == "int8" and self.engine == "auto":
            self.engine = ONNX
        if self.precision == "auto" and (self.trained_stages or self.engine == ONNX):
            self.precision = "float32"
        self.precision = choose_precision(self.precision, device)
        self._check_engine(device)
        self.compute_dtype, self.is_optimized = DTYPES[self.precision], True
        self.network.to(dtype=self.compute_dtype, memory_format=torch.channels_last)
        layout = "ONNX Runtime" if self.engine == ONNX else "channels-last"
        logger.info("backbone %s computes in %s, %s", self.name, self.precision, layout)
        return self

    def _check_engine(self, device: torch.device) -> None:
        if self.engine != ONNX:
            if self.precision == "int8":
                raise InputError(
                    f"model.backbone.precision=int8 requires {ENGINE_KEY}=onnxruntime.", key=ENGINE_KEY
                )
        elif not has_onnxruntime():
            raise InputError(
                f"{ENGINE_KEY}=onnxruntime requires .venv/bin/pip install -e '.[onnx]', or set {ENGINE_KEY}=torch.",
                key=ENGINE_KEY,
            )
        elif self.trained_stages or device.type != "cpu" or self.precision not in ("float32", "int8"):
            raise InputError(
                f"{ENGINE_KEY}=onnxruntime computes in float32 or int8 on a CPU, without training. Set "
                f"{ENGINE_KEY}=torch, and model.backbone.precision=auto.",
                key=ENGINE_KEY,
            )

    def choose_engine(self, images: Tensor, remembered: Path) -> None:
        """Use the fastest engine for the given kind of images, if `engine` is `auto` and there is a choice.

        In bfloat16 and float16, and on a GPU, torch and channels-last are always used.
        """
        if self.engine == "auto" and self.precision == "float32" and images.device.type == "cpu":
            pixels = self.normalize(images)
            self.engine, self._run = fastest_engine(
                self.name, self.network, pixels, self.read_out, remembered
            )

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
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.trained_stages)):
            first, *mirrored = self.outputs(images)
            features = self.read_out(first)
            return (features + self.read_out(mirrored[0], flip=True)) / 2 if mirrored else features

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of `forward_features` for images and, with `mirror`, for their mirror images."""
        if self.mirror and torch.onnx.is_in_onnx_export():
            # one pass for both, because 8-bit weights that two passes share have the scales of only one of them
            both = self._output(self.normalize(torch.cat([images, images.flip(-1)])))
            return [both[: images.shape[0]], both[images.shape[0] :]]
        variants = [images, images.flip(-1)] if self.mirror else [images]
        return [self._output(self.normalize(variant)) for variant in variants]

    def _output(self, pixels: Tensor) -> Tensor:
        if self._run is None and self.engine == ONNX and self.is_optimized:
            # not before, because a conversion takes seconds, and all features may be in the store
            typical = [torch.from_numpy(np.array(self.transform(image))) for image in calibration_images()]
            examples = self.normalize(torch.stack(typical))
            self._run = onnx_engine(self.network, examples, int8=self.precision == "int8")
        output = (self._run or self.network.forward_features)(pixels)
        if not isinstance(output, Tensor):
            raise InputError(
                f"model.backbone.name: '{self.name}' has several outputs, which is not supported."
            )
        return output

    def read_out(self, output: Tensor, *, flip: bool = False) -> Tensor:
        """Pool an output; see `mlic.models.pooling.read_out`."""
        return read_out(self.network, output, self.pool, self._input_size, flip=flip)

    def to_map(self, output: Tensor) -> Tensor:
        """Reshape an output to a feature map; see `mlic.models.pooling.to_map`."""
        return to_map(self.network, output, self._input_size)

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
            **({"calibration": CALIBRATION} if self.precision == "int8" else {}),
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


def digest_of(network: nn.Module) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and bytes of the parameters and buffers of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
