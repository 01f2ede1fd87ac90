"""Engines that compute the output of a frozen network in float32 on a CPU: torch in two memory layouts, ONNX Runtime.

Which is fastest depends on network and processor, so `fastest_engine` measures them. They differ by rounding in float32
alone, far below the rounding of stored float16 features, so that the engine is not part of the key of a store.
"""

import importlib.util
import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mlic.errors import InputError
from mlic.models.quantization import quantize_file

logger = logging.getLogger(__name__)

KEY = "model.backbone.engine"
ENGINES = ("auto", "torch", "onnxruntime")
CHANNELS_LAST, CONTIGUOUS, ONNX = "torch, channels-last", "torch, NCHW", "onnxruntime"
SECONDS_OF_ENGINE = 0.7
LEAST_COSINE = 0.9999
LARGEST_DIFFERENCE = 5e-4  # relative to the largest feature; the rounding of float16
Engine = Callable[[Tensor], Tensor]


class _ForwardFeatures(nn.Module):
    """`forward_features` of a timm network as a module, for export."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.forward_features(pixels)


def has_onnxruntime() -> bool:
    """Return True if the packages for ONNX Runtime are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def onnx_engine(network: nn.Module, pixels: Tensor, *, int8: bool = False) -> Engine:
    """Convert `forward_features` of a network to ONNX Runtime.

    Args:
        network: timm network in float32 on the CPU.
        pixels: float32 (B, 3, H, W), an example; with `int8`, typical images.
        int8: compute in 8-bit integers; see `mlic.models.quantization`.

    Returns:
        A function from pixels float32 (B, 3, H, W) to the output of `forward_features`.

    Raises:
        InputError: the network cannot be converted.
        ImportError: the packages are not installed; see `has_onnxruntime`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(folder) / "network.onnx"
            # the newer exporter (dynamo=True) took 23 s instead of 3 s for EfficientNet-Lite2
            torch.onnx.export(
                _ForwardFeatures(network).eval(),
                (pixels[:1].contiguous(),),
                file,
                dynamo=False,
                input_names=["pixels"],
                output_names=["output"],
                dynamic_axes={"pixels": {0: "images"}, "output": {0: "images"}},
            )
            if int8:
                source, file = file, file.with_name("int8.onnx")
                quantize_file(source, file, (image.contiguous().numpy() for image in pixels.split(1)))
            session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each operator that is not supported has an error of its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{KEY}=onnxruntime: the network cannot be converted ({reason}). Set {KEY}=torch.", key=KEY
        ) from error
    return lambda images: torch.from_numpy(session.run(None, {"pixels": images.contiguous().numpy()})[0])


def fastest_engine(
    name: str, network: Any, pixels: Tensor, read_out: Callable[[Tensor], Tensor], remembered: Path
) -> tuple[str, Engine]:
    """Measure the engines on a batch, and return the name and the function of the fastest.

    An engine whose features differ by more than rounding is not used. The choice is remembered for this processor,
    number of threads and network.

    Args:
        name: name of the network.
        network: timm network in float32 on the CPU; its memory layout is set.
        pixels: float32 (B, 3, H, W), normalised images.
        read_out: pools an output.
        remembered: JSON file of choices, which is created or extended.
    """
    shape = "x".join(map(str, pixels.shape[1:]))
    key = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {name}, {shape}"
    try:
        choices = dict(json.loads(remembered.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # missing, or not the file that was written
        choices = {}
    names = [CHANNELS_LAST, CONTIGUOUS, *([ONNX] if has_onnxruntime() else [])]
    if (known := choices.get(key)) in names:
        logger.info("engine: %s, as measured earlier ('%s')", known, remembered)
        return known, make_engine(known, network, pixels)
    seconds, expected = {}, None
    for choice in names:
        try:
            engine = make_engine(choice, network, pixels)
        except InputError as error:
            logger.info("engine: %s", error)
            continue
        features = read_out(engine(pixels)).flatten(1)
        expected = features if expected is None else expected
        cosine = float(cosine_similarity(features, expected).min())
        difference = float((features - expected).abs().max() / expected.abs().max())
        if cosine >= LEAST_COSINE and difference <= LARGEST_DIFFERENCE:
            seconds[choice] = _measure(engine, pixels)
        else:
            logger.info("engine: %s gives other features and is not used", choice)
    fastest = min(seconds, key=lambda choice: seconds[choice])
    speeds = ", ".join(f"{choice} {len(pixels) / value:.1f}" for choice, value in seconds.items())
    logger.info("engine: %s (images/s: %s)", fastest, speeds)
    with suppress(OSError):  # the folder may be read-only
        remembered.write_text(json.dumps(choices | {key: fastest}, indent=2), encoding="utf-8")
    return fastest, make_engine(fastest, network, pixels)


def make_engine(name: str, network: Any, pixels: Tensor) -> Engine:
    """Return the engine of a name, for which the memory layout of the network is set."""
    if name == ONNX:
        return onnx_engine(network, pixels)
    layout = torch.channels_last if name == CHANNELS_LAST else torch.contiguous_format
    network.to(memory_format=layout)
    return lambda images: network.forward_features(images.contiguous(memory_format=layout))


def _measure(engine: Engine, pixels: Tensor) -> float:
    """Return the least seconds of a call; the least is the one that other programs disturbed least."""
    found, start = [], time.perf_counter()
    while not found or time.perf_counter() - start < SECONDS_OF_ENGINE:
        before = time.perf_counter()
        engine(pixels)
        found.append(time.perf_counter() - before)
    return min(found)


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
