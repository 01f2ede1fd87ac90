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


def test_train_mode_never_reaches_the_network(backbone: FrozenBackbone):
    before = digest_of(backbone.network)
    backbone.train()
    backbone(images(4, backbone.image_size))
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert digest_of(backbone.network) == before


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
    def identity(seed: int = 0, **options: Any) -> dict[str, Any]:
        torch.manual_seed(seed)
        return FrozenBackbone(TINY, pretrained=False, **options).identity

    assert identity() == identity()
    assert identity(1) != identity() != identity(image_size=96)
