"""Frozen forward passes of this package, compared with plain loops over the same images."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.bare import BATCH_SIZE
from benchmarks.rows import Row
from benchmarks.setting import Setting
from benchmarks.timing import take_turns
from mlic.models import FrozenBackbone
from mlic.models.engines import has_onnxruntime, onnx_engine
from mlic.models.precision import has_native_bfloat16

# name, side of the images in pixels, with pretrained weights
NETWORKS = (
    ("tf_efficientnet_lite0.in1k", 224, True),
    ("tf_efficientnet_lite2.in1k", 352, True),
    ("resnet50", 224, False),
    ("inception_v3", 299, False),
    ("vgg16", 224, False),
)
TURNS = 5
CPU = torch.device("cpu")


def engines(setting: Setting) -> list[Row]:
    """Measure networks of today and of the report, each with all engines in turns."""
    networks = (("test_efficientnet", 64, False),) if setting.quick else NETWORKS
    return [_compare(setting, *network) for network in networks]


def _compare(setting: Setting, name: str, size: int, pretrained: bool) -> Row:
    """Return a row of one network: the default of this package divided by the fastest plain loop."""
    shape = (setting.choose(BATCH_SIZE, 2), 3, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def backbone(**options: str) -> FrozenBackbone:
        return FrozenBackbone(name, pretrained=pretrained, image_size=size, **options)

    plain = backbone(precision="float32", engine="torch")
    pixels = plain.normalize(images).contiguous()
    float32, default = (backbone(precision=precision).optimize_for(CPU) for precision in ("float32", "auto"))
    float32.choose_engine(images, setting.work / "engines.json")
    loops: dict[str, Callable[[], Tensor]] = {"torch, NCHW": lambda: plain.network.forward_features(pixels)}
    if has_onnxruntime():
        session = onnx_engine(plain.network, pixels)
        loops["ONNX Runtime"] = lambda: session(pixels)
    if has_native_bfloat16(CPU):
        narrow = backbone(precision="bfloat16").optimize_for(CPU)
        narrow_pixels = narrow.normalize(images)
        loops["torch, bfloat16, channels-last"] = lambda: narrow.network.forward_features(narrow_pixels)
    ours = {
        f"mlic float32 ({float32.engine})": lambda: float32(images),
        f"mlic {default.precision}": lambda: default(images),
    }
    # with random weights, ONNX Runtime leaves most layers of lite0 in float32, and takes three times as long as with
    # its weights: 0.84 and 0.29 s for 32 images
    if has_onnxruntime() and pretrained:
        int8 = backbone(precision="int8").optimize_for(CPU)
        ours["mlic int8"] = lambda: int8(images)
    with torch.inference_mode():
        clocks = take_turns({**loops, **ours}, setting.choose(TURNS, 1))
    # the least time is the one that other programs disturbed least
    speeds = {key: len(images) / min(clock.wall for clock in clocks[key]) for key in clocks}
    in_float32 = max(speed for key, speed in speeds.items() if key in ("torch, NCHW", "ONNX Runtime"))
    return Row(
        f"mlic / fastest plain loop, both in float32: {name}, {size} px",
        speeds[f"mlic float32 ({float32.engine})"] / in_float32,
        target=">= 0.95",
        detail=", ".join(f"{key} {speed:.1f}" for key, speed in speeds.items()) + " images/s",
    )
