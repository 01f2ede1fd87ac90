"""Pooling: from the output of a timm network to the features of an image.

The output of `forward_features` is a feature map (B, C, h, w) or (B, h, w, C), or tokens (B, prefix + h * w, C), where
the prefix is a class token, register tokens, both or none. Which of them is the description of the image depends on how
the network was trained: some train the class token, some the mean of the patches, some an attention pooling of their
own. `auto` follows timm, which computes it in `forward_head`.
"""

import math
from typing import Any

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.attention_pool import AttentionPoolLatent, AttentionPoolPrr
from timm.layers.attention_pool2d import AttentionPool2d, RotAttentionPool2d
from torch import Tensor, nn

from mlic.errors import InputError

POOLS = ("auto", "cls", "avg", "cls_avg", "map", "max", "avgmax", "flatten", "none", "grid7")
KEY = "model.backbone.pool"
GRID = 7
ATTENTION_POOLINGS = (AttentionPoolLatent, AttentionPoolPrr, AttentionPool2d, RotAttentionPool2d)
VECTORS_OF_MAP = {
    pool: SelectAdaptivePool2d(pool_type=pool, flatten=True) for pool in ("avg", "max", "avgmax")
}
TOLERANCE = 1e-4  # of features of random images, which differ by some tens of percent between poolings


def read_out(network: Any, output: Tensor, pool: str, size: tuple[int, int], *, flip: bool = False) -> Tensor:
    """Pool the output of a network.

    A normalisation that timm applies after pooling (`fc_norm` of transformers) follows every pooling of tokens. With
    pools that keep positions, it is applied to each position.

    Args:
        network: a timm network.
        output: output of its `forward_features`, in the dtype of the network.
        pool: one of `POOLS`. `auto` and `map` are timm's `forward_head` without the classifier.
        size: height and width of the input in pixels.
        flip: the input was a mirror image: positions are flipped back, so that they correspond to those of the image.

    Returns:
        Features float32 (B, F), or (B, C, h, w) for `none` and `grid7`.

    Raises:
        InputError: the network has no such output.
    """
    has_class_token = output.ndim == 3 and any(
        getattr(part, "cls_token", None) is not None for part in (network, *network.children())
    )
    if pool in ("cls", "cls_avg") and not has_class_token:
        raise InputError(f"{KEY}={pool}: this network has no class token. Set {KEY}=auto or avg.", key=KEY)
    if pool == "map" and not has_attention_pooling(network):
        raise InputError(
            f"{KEY}=map: this network has no attention pooling. Set {KEY}=auto or avg; none keeps the feature map.",
            key=KEY,
        )
    if pool in ("auto", "map"):
        return network.forward_head(output, pre_logits=True).float()
    if pool == "cls":
        return _normalize(network, output, output[:, 0].float())
    if pool == "cls_avg":
        return torch.cat([read_out(network, output, part, size) for part in ("cls", "avg")], dim=1)
    feature_map = to_map(network, output, size).float()  # many positions are summed in float32
    if flip:
        feature_map = feature_map.flip(-1)
    if pool in VECTORS_OF_MAP:
        return _normalize(network, output, VECTORS_OF_MAP[pool](feature_map))
    # permute, because the exporter to ONNX gives movedim a wrong order
    feature_map = _normalize(network, output, feature_map.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    if pool == "grid7":
        if min(feature_map.shape[2:]) < GRID:
            raise InputError(
                f"{KEY}=grid7: the map of this network has only {' x '.join(map(str, feature_map.shape[2:]))} "
                f"positions. Set {KEY}=none.",
                key=KEY,
            )
        return _grid_means(feature_map)
    return feature_map.flatten(1) if pool == "flatten" else feature_map


def _grid_means(feature_map: Tensor) -> Tensor:
    """Average a map (B, C, h, w) to (B, C, 7, 7); cells overlap if a side is not a multiple of 7."""
    if not torch.onnx.is_in_onnx_export():
        return nn.functional.adaptive_avg_pool2d(feature_map, GRID)
    # ONNX has no adaptive pooling: products with a matrix (7, side) for each side, which differ by rounding
    weights = []
    for side in map(int, feature_map.shape[2:]):
        cells = [(cell * side // GRID, -(-(cell + 1) * side // GRID)) for cell in range(GRID)]
        rows = [
            [float(start <= place < end) / (end - start) for place in range(side)] for start, end in cells
        ]
        weights.append(torch.tensor(rows))
    return weights[0] @ feature_map @ weights[1].T


def _normalize(network: Any, output: Tensor, features: Tensor) -> Tensor:
    """Apply the normalisation after pooling to float32 features (..., C), in the dtype of the network."""
    norm = getattr(network, "fc_norm", None) if output.ndim == 3 else None
    if norm is None or isinstance(norm, nn.Identity):
        return features
    return norm(features.to(output.dtype)).float()


def has_attention_pooling(network: nn.Module) -> bool:
    """Return True if timm pools the output of the network by attention."""
    return any(isinstance(module, ATTENTION_POOLINGS) for module in network.modules())


def name_of_auto(network: Any, output: Tensor, size: tuple[int, int]) -> str:
    """Return the pool that equals `auto` for a network, or `auto` if none does.

    timm's `forward_head` may contain further layers, such as the normalisation of ConvNeXt, the last convolution of
    MobileNetV4 or the dense layers of VGG; these have no other name.

    Args:
        network: a timm network.
        output: its output for random images, on which poolings differ.
        size: height and width of the input in pixels.
    """
    if has_attention_pooling(network):
        return "map"
    expected = read_out(network, output, "auto", size)
    for pool in ("cls", *VECTORS_OF_MAP):
        try:
            features = read_out(network, output, pool, size)
        except InputError:
            continue
        scale = float(expected.abs().max())
        if features.shape == expected.shape and torch.allclose(features, expected, atol=TOLERANCE * scale):
            return pool
    return "auto"


def to_map(network: Any, output: Tensor, size: tuple[int, int]) -> Tensor:
    """Reshape the output of any timm network to a feature map (B, C, h, w), without class and register tokens.

    Args:
        network: a timm network.
        output: output of its `forward_features`.
        size: height and width of the input in pixels.

    Raises:
        InputError: the tokens are not a grid over the input.
    """
    if output.ndim == 3:
        patches = output[:, getattr(network, "num_prefix_tokens", 0) :]
        return patches.transpose(1, 2).unflatten(2, find_grid(patches.shape[1], size))
    return output.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else output


def find_grid(patches: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of square patches that cover an input, without incomplete ones at its edges.

    Args:
        patches: number of patches.
        size: height and width of the input in pixels.

    Raises:
        InputError: no grid of so many patches covers the input.
    """
    height, width = size
    grids = [(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0]
    rows, columns = min(grids, key=lambda grid: abs(math.log(grid[0] * width / (grid[1] * height))))
    # a side of a patch must give these numbers of whole patches in both directions
    if height / (rows + 1) < width / columns and width / (columns + 1) < height / rows:
        return rows, columns
    raise InputError(
        f"{KEY}: the {patches} tokens of this network are not a grid over {width} x {height} pixels. Set {KEY}=auto.",
        key=KEY,
    )
