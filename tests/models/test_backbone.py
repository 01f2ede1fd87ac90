from typing import Any

import pytest
import torch
from PIL import Image

from mlic.models import FrozenBackbone
from mlic.models.backbone import digest_of

TINY = "test_efficientnet"


def images(count: int, size: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture(scope="module")
def backbone() -> FrozenBackbone:
    return FrozenBackbone(TINY, pretrained=False, precision="float32").optimize_for(torch.device("cpu"))


def test_features_equal_timm_forward_features(backbone: FrozenBackbone):
    batch = images(3, backbone.image_size)
    mean, std = (torch.tensor(backbone.preprocessing[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    forward_features: Any = backbone.network.forward_features
    expected = forward_features((batch / 255 - mean) / std).mean(dim=(2, 3))
    features = backbone(batch)
    assert features.shape == (3, *backbone.feature_shape)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert not features.requires_grad


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "flatten"])
def test_pools_are_views_of_one_map(pool: str):
    torch.manual_seed(0)
    kept = FrozenBackbone(TINY, pretrained=False, pool="none", precision="float32")
    torch.manual_seed(0)
    pooled = FrozenBackbone(TINY, pretrained=False, pool=pool, precision="float32")
    batch = images(2, kept.image_size)
    feature_map = kept(batch)
    average, maximum = feature_map.mean(dim=(2, 3)), feature_map.amax(dim=(2, 3))
    expected = {
        "avg": average,
        "max": maximum,
        "avgmax": (average + maximum) / 2,
        "flatten": feature_map.flatten(1),
    }[pool]
    torch.testing.assert_close(pooled(batch), expected)
    assert pooled.feature_shape == tuple(expected.shape[1:])


def test_train_mode_never_reaches_the_network(backbone: FrozenBackbone):
    before = digest_of(backbone.network)
    backbone.train()
    backbone(images(4, backbone.image_size))
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert digest_of(backbone.network) == before


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_transformers_and_channels_last_networks_give_a_map(name: str):
    backbone = FrozenBackbone(name, pretrained=False, pool="none", precision="float32")
    channels, height, width = backbone.feature_shape
    assert channels == backbone.network.num_features
    assert height == width > 1


def test_squash_without_crop_shows_the_whole_photograph():
    wide = Image.new("RGB", (400, 100), "black")
    wide.paste("white", (0, 0, 20, 100))
    wide.paste("white", (380, 0, 400, 100))

    def white_columns(**options: Any) -> int:
        backbone = FrozenBackbone(TINY, pretrained=False, image_size=80, **options)
        pixels = torch.as_tensor(backbone.transform(wide))
        assert (pixels.shape, pixels.dtype) == ((3, 80, 80), torch.uint8)
        return int((pixels[0, 40] > 200).sum())

    assert white_columns() == 0
    assert white_columns(crop_mode="squash", crop_pct=1.0) == pytest.approx(80 * 0.1, abs=2)


def test_identity_tells_what_determines_the_features():
    torch.manual_seed(0)
    first = FrozenBackbone(TINY, pretrained=False)
    torch.manual_seed(0)
    same = FrozenBackbone(TINY, pretrained=False)
    other_weights = FrozenBackbone(TINY, pretrained=False)
    assert first.identity == same.identity
    assert first.identity != other_weights.identity
    assert first.identity != FrozenBackbone(TINY, pretrained=False, image_size=96).identity


def test_precision_auto_is_resolved():
    backbone = FrozenBackbone(TINY, pretrained=False).optimize_for(torch.device("cpu"))
    assert backbone.precision in {"bfloat16", "float32"}
    assert backbone(images(1, backbone.image_size)).dtype == torch.float32
