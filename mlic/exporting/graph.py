"""The ONNX graph of a run: images -> pixels (resize and crop) -> features (backbone) -> scores (head and sigmoid)."""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, compose, parser
from torch import Tensor, nn
from torchvision import transforms

from mlic.errors import InputError
from mlic.models import Backbone
from mlic.models.quantization import quantize_file

IMAGES, PIXELS, FEATURES, SCORES = "images", "pixels", "features", "scores"
OPSET = 18  # the first whose Resize has antialiasing
IR_VERSION = 8  # that of the exporter of torch
# The filters of Pillow. Resize of uint8 rounds between its two directions, as Pillow does: 2 of 10,000 pixels of
# photographs differ, by one grey level. Resize of float32 does not: 17 % differ, and scores by up to 0.008.
FILTERS = {"bicubic": 'mode = "cubic", cubic_coeff_a = -0.5', "bilinear": 'mode = "linear"'}


def preprocessing_of(backbone: Backbone, *, reduced: bool) -> list[dict[str, Any]]:
    """Return how each network prepares an image, as JSON types.

    Args:
        backbone: one network or several.
        reduced: JPEGs are decoded at reduced size (`data.decode=reduced`).

    Returns:
        For each network `size`, [short side] or [height, width]; `interpolation`; `crop`, the
        [height, width] of the middle that is kept; and `draft`, the least short side of a reduced JPEG or None.

    Raises:
        InputError: the transform has other steps.
    """
    plans = []
    for member in backbone.members:
        steps = {type(step): step for step in getattr(member.transform, "transforms", ())}
        resize, crop = (steps.get(kind) for kind in (transforms.Resize, transforms.CenterCrop))
        if not resize or not crop or resize.interpolation.value not in FILTERS:
            raise InputError(
                f"'{member.name}' prepares images by other steps than a bicubic or bilinear resize and a central "
                "crop, which cannot be exported. Train with model.backbone.crop_mode=center or squash."
            )
        size = [resize.size] if isinstance(resize.size, int) else list(resize.size)
        names = {"size": size, "interpolation": resize.interpolation.value, "crop": list(crop.size)}
        plans.append({**names, "draft": member.resize_size if reduced else None})
    return plans


def trace(module: nn.Module, example: Tensor, source: str, target: str) -> ModelProto:
    """Convert a module with one input and one output, whose first dimension is any number of images.

    Args:
        module: module on the CPU.
        example: two images.
        source: name of the input.
        target: name of the output.

    Raises:
        InputError: an operator has no form in ONNX, or the model is larger than 2 GB.
    """
    axes = {name: {0: "batch"} for name in (source, target)}
    options: Any = {"dynamo": False, "opset_version": OPSET, "dynamic_axes": axes}  # dynamo needs onnxscript
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            names: Any = {"input_names": [source], "output_names": [target]}
            torch.onnx.export(module.eval(), (example,), file := f"{folder}/part.onnx", **names, **options)
            model = onnx.load(file)
    except Exception as error:  # each operator that is not supported has an error of its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the {target} cannot be converted to ONNX ({reason}). Set format=torch.") from error
    return compose.add_prefix(model, f"{target}/", rename_inputs=False, rename_outputs=False, inplace=True)


def join(first: ModelProto, second: ModelProto) -> ModelProto:
    """Append a model to another one, whose output is its input, and return the first, which is changed.

    `onnx.compose.merge_models` does the same with several copies of the weights, which may have 2 GB.
    """
    for field in ("node", "initializer"):
        getattr(first.graph, field).extend(getattr(second.graph, field))
    known = {each.domain for each in first.opset_import}
    first.opset_import.extend(each for each in second.opset_import if each.domain not in known)
    del first.graph.output[:]
    first.graph.output.extend(second.graph.output)
    return first


def quantize(model: ModelProto, examples: Iterable[np.ndarray]) -> ModelProto:
    """Return a model with 8-bit weights (one scale a channel) and activations, whose ranges are those of examples.

    Args:
        model: in float32, with the input `pixels`.
        examples: arrays uint8 (1, ...) of pixels.
    """
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)  # because a model in memory would be changed
        quantize_file(source, target, examples)
        return onnx.load(target)


def build_graph(
    network: ModelProto, plans: Sequence[Mapping[str, Any]], info: Mapping[str, Any], *, resize: bool
) -> ModelProto:
    """Return the whole model: uint8 images (B, height, width, 3) -> float32 scores (B, C).

    Args:
        network: from pixels to scores.
        plans: see `preprocessing_of`.
        info: metadata, stored as one JSON text for each key.
        resize: resize and crop images of any size; otherwise images must have the size of the crop.
    """
    crop = plans[0]["crop"]
    size = "height, width" if resize else f"{crop[0]}, {crop[1]}"
    shape = f"3, {crop[0]}, {crop[1]}" if len(plans) == 1 else sum(3 * prod(plan["crop"]) for plan in plans)
    steps = _steps(plans) if resize else "pixels = Transpose<perm = [0, 3, 1, 2]>(images)"
    first = parser.parse_model(f"""
        <ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>
        prepare (uint8[images, {size}, 3] images) => (uint8[images, {shape}] pixels) {{ {steps} }}
    """)
    model = join(first, network)
    properties = {key: json.dumps(value, ensure_ascii=False) for key, value in info.items()}
    onnx.helper.set_model_props(model, properties)
    return model


def add_outputs(model: ModelProto, *, from_pixels: bool = False) -> None:
    """Let a whole model also return features, and pixels or, `from_pixels`, begin with pixels; changes the model."""
    graph, helper = model.graph, onnx.helper
    pixels = helper.make_tensor_value_info(PIXELS, onnx.TensorProto.UINT8, None)
    del graph.output[1:]
    graph.output.append(helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, None))
    if not from_pixels:
        graph.output.append(pixels)
        return
    # all tensors of networks and head are named after their result
    while not graph.node[0].output[0].startswith((FEATURES, SCORES)):
        del graph.node[0]
    graph.input[0].CopyFrom(pixels)


def _steps(plans: Sequence[Mapping[str, Any]]) -> str:
    """Return the nodes that resize and crop. The images of several networks are flattened and concatenated."""
    steps = """
        two = Constant<value = float {2.0}>()  axes = Constant<value = int64[2] {2, 3}>()
        by_channel = Transpose<perm = [0, 3, 1, 2]>(images)  leading = Shape<end = 2>(by_channel)
        sides = Shape<start = 2>(by_channel)  short = ReduceMin(sides)
    """
    for n, plan in enumerate(plans):
        size = ", ".join(map(str, plan["size"]))
        # the longer side is rounded down, and the margins half to even, as in torchvision
        target = f"scaled{n} = Mul(side{n}, sides)  size{n} = Div(scaled{n}, short)"
        steps += f"""
            side{n} = Constant<value = int64[{len(plan["size"])}] {{{size}}}>()
            {f"size{n} = Identity(side{n})" if len(plan["size"]) == 2 else target}
            sizes{n} = Concat<axis = 0>(leading, size{n})
            resized{n} = Resize<antialias = 1, exclude_outside = 1, {FILTERS[plan["interpolation"]]}>
                (by_channel, , , sizes{n})
            crop{n} = Constant<value = int64[2] {{{plan["crop"][0]}, {plan["crop"][1]}}}>()
            margin{n} = Sub(size{n}, crop{n})  exact{n} = Cast<to = 1>(margin{n})
            half{n} = Div(exact{n}, two)  rounded{n} = Round(half{n})
            start{n} = Cast<to = 7>(rounded{n})  stop{n} = Add(start{n}, crop{n})
            cropped{n} = Slice(resized{n}, start{n}, stop{n}, axes)  flat{n} = Flatten(cropped{n})
        """
    flat = ", ".join(f"flat{n}" for n in range(len(plans)))
    return steps + (f"pixels = Concat<axis = 1>({flat})" if len(plans) > 1 else "pixels = Identity(cropped0)")
