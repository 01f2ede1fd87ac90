"""The pooling of networks of timm's families, with random weights and small images."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mlic.errors import InputError
from mlic.models import FrozenBackbone, backbone
from mlic.models.pooling import find_grid, read_out
from mlic.models.weights import load_network

FAMILIES = [
    # name, image size, the pool that equals timm's own
    ("vit_tiny_patch16_224", 64, "cls"),
    ("deit3_small_patch16_224", 64, "cls"),
    ("deit_tiny_distilled_patch16_224", 64, "auto"),  # mean of two class tokens
    ("vit_small_patch14_reg4_dinov2", 56, "cls"),
    ("vit_tiny_patch16_dinov3_qkvb", 64, "avg"),
    ("vit_little_patch16_reg4_gap_256", 64, "avg"),  # registers without a class token
    ("eva02_tiny_patch14_224", 56, "avg"),
    ("vit_pe_core_tiny_patch16_384", 64, "map"),
    ("convnext_atto", 64, "auto"),  # normalises after pooling
    ("mobilenetv4_conv_small_035", 64, "auto"),  # a convolution after pooling
    ("tf_efficientnet_lite0", 64, "avg"),
    ("resnet18", 64, "avg"),
    ("swin_tiny_patch4_window7_224", 112, "avg"),
    pytest.param("resnet50_clip", 64, "map", marks=pytest.mark.slow),
    pytest.param("beit_base_patch16_224", 64, "avg", marks=pytest.mark.slow),
    pytest.param("vit_base_patch32_siglip_256", 64, "map", marks=pytest.mark.slow),
    pytest.param("vgg11", 64, "auto", marks=pytest.mark.slow),
    pytest.param("nasnetalarge", 96, "avg", marks=pytest.mark.slow),
]


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "size", "auto"), FAMILIES)
@torch.no_grad()
def test_features_are_those_that_timm_passes_to_the_classifier(name, size, auto, monkeypatch):
    network: Any = load_network(name, pretrained=False, image_size=size)
    monkeypatch.setattr(backbone, "load_network", lambda *_, **__: copy.deepcopy(network))
    made = FrozenBackbone(name, precision="float32", image_size=size)
    assert (made.pool, made.image_size, made.identity["preprocessing"]["input_size"][2]) == (auto, size, size)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    output = network.forward_features(made.normalize(images))
    expected = network.forward_head(output, pre_logits=True)
    same(made(images), expected)
    assert made.feature_shape == expected.shape[1:]
    classifiers = network.get_classifier()
    layers = torch.nn.ModuleList(classifiers if isinstance(classifiers, tuple) else [classifiers])
    classifier = sum(weight.numel() for weight in layers.parameters())
    assert made.num_parameters <= sum(weight.numel() for weight in network.parameters()) - classifier

    def pooled(pool: str) -> Tensor:
        return read_out(network, output, pool, (size, size))

    if auto in ("cls", "avg"):
        # the poolings that timm offers in the place of its own, with its normalisations where they are
        network.reset_classifier(0, "avg")
        same(pooled("avg"), network.forward_head(output, pre_logits=True))
    if output.ndim == 3 and network.cls_token is not None and auto != "auto":
        network.reset_classifier(0, "token")
        same(pooled("cls"), network.forward_head(output, pre_logits=True))
        same(pooled("cls_avg"), torch.cat([pooled("cls"), pooled("avg")], dim=1))
    grid = pooled("none")
    assert grid.ndim == 4 and grid.shape[2] == grid.shape[3]
    same(pooled("flatten"), grid.flatten(1))
    if output.ndim == 4:
        same(pooled("max"), grid.amax(dim=(2, 3)))
        same(pooled("avgmax"), (pooled("avg") + pooled("max")) / 2)
    if output.ndim == 3:
        patches = output[:, network.num_prefix_tokens :]
        same(grid.flatten(2).transpose(1, 2), getattr(network, "fc_norm", torch.nn.Identity())(patches))


@pytest.mark.parametrize("size", [(64, 96), (100, 60), (1024, 768), (37, 300)])
@pytest.mark.parametrize("patch", [8, 14, 16])
def test_a_grid_need_not_be_square(size: tuple[int, int], patch: int):
    grid = (size[0] // patch, size[1] // patch)
    assert find_grid(grid[0] * grid[1], size) == grid
    with pytest.raises(InputError, match="tokens of this network are not a grid over"):
        find_grid(10_007, size)


def test_a_network_for_images_that_are_not_square(monkeypatch: pytest.MonkeyPatch):
    network: Any = load_network("test_vit", pretrained=False)
    network.pretrained_cfg["input_size"] = (3, 64, 96)
    monkeypatch.setattr(backbone, "load_network", lambda *_, **__: network)
    made = FrozenBackbone("test_vit", pool="none", precision="float32")
    channels, *grid = made.feature_shape
    assert grid == [4, 6]
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    features = made(images)
    assert features.shape == (2, channels, 4, 6)
    tokens = network.forward_features(made.normalize(images))[:, network.num_prefix_tokens :]
    same(features[:, :, 2, 1], tokens[:, 2 * 6 + 1])


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_mirror_images_are_flipped_back_where_positions_are_kept(name: str):
    width = 0
    for pool in ("none", "flatten", "grid7", "auto"):
        made = FrozenBackbone(
            name, pool=pool, pretrained=False, precision="float32", mirror=True, image_size=224
        )
        images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
        found, mirrored = made(images), made(images.flip(-1))
        width = found.shape[-1] if pool == "none" else width
        if pool == "flatten":
            found, mirrored = (
                maps.unflatten(1, (made.num_channels, -1, width)) for maps in (found, mirrored)
            )
        same(mirrored.flip(-1) if pool != "auto" else mirrored, found)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("test_resnet", {"pool": "cls"}, "no class token"),
        ("vit_little_patch16_reg4_gap_256", {"pool": "cls_avg", "image_size": 64}, "no class token"),
        ("test_vit", {"pool": "map"}, "no attention pooling"),
        ("test_resnet", {"pool": "grid7", "image_size": 64}, r"grid7: .* only \d x \d positions"),
        ("crossvit_tiny_240", {}, "several outputs"),
        ("swin_tiny_patch4_window7_224", {"image_size": 0}, "image_size=0: not supported"),
    ],
)
def test_outputs_that_a_network_does_not_have_are_refused(name: str, options: Any, message: str):
    with pytest.raises(InputError, match=message):
        FrozenBackbone(name, pretrained=False, **options)
