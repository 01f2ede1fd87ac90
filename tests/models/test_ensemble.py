"""Several tiny random networks side by side."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mlic.data.images import open_at_sizes, open_image
from mlic.errors import InputError
from mlic.inference.loading import build
from mlic.models import EnsembleBackbone

TINY = "test_efficientnet"
MEMBERS = (
    {"name": TINY, "image_size": 64, "pool": "avg"},
    {"name": "test_resnet", "image_size": 96, "pool": "flatten"},
    {"name": TINY, "image_size": 96, "pool": "max", "crop_mode": "squash", "crop_pct": 1.0},
)


def make(*members: dict[str, Any], **common: Any) -> EnsembleBackbone:
    torch.manual_seed(0)
    return EnsembleBackbone(members, pretrained=False, **{"precision": "float32", **common})


@pytest.fixture(scope="module")
def ensemble() -> EnsembleBackbone:
    return make(*MEMBERS)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A JPEG that the members decode at two different reductions."""
    pixels = np.random.default_rng(0).integers(0, 256, (25, 30, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).resize((480, 400), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def test_features_are_those_of_the_members_each_on_its_own_image(ensemble, photograph):
    assert ensemble.image_size == (64, 96, 96)
    images = open_at_sizes(photograph, ensemble.resize_size)
    assert isinstance(images, list) and len({image.size for image in images}) == 2
    batch = torch.from_numpy(np.stack([ensemble.transform(images), ensemble.transform(images)]))
    assert batch.shape == (2, 3 * (64**2 + 2 * 96**2)) and batch.dtype == torch.uint8
    alone = []
    for member in ensemble.members:
        crop = member.transform(open_image(photograph, draft_size=member.resize_size))
        alone.append(member(torch.from_numpy(np.array(crop))[None]).flatten(1))
    found = ensemble(batch)
    assert found.shape == (2, *ensemble.feature_shape) and found.dtype == torch.float32
    assert alone[1].shape[1] > alone[0].shape[1] == alone[2].shape[1]
    torch.testing.assert_close(found[:1], torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], found[0])


def test_it_stays_frozen_and_describes_its_members(ensemble: EnsembleBackbone):
    ensemble.train()
    assert not any(module.training for module in ensemble.modules())
    assert not any(weight.requires_grad for weight in ensemble.parameters())
    assert not (ensemble.trained_stages or ensemble.parameter_groups() or ensemble.trained_names)
    assert ensemble.num_parameters == sum(weight.numel() for weight in ensemble.parameters())
    assert ensemble.weights_tag == "random + random + random"
    identity = json.loads(json.dumps(ensemble.identity))
    assert identity["network"] == "test_efficientnet + test_resnet + test_efficientnet"
    assert (identity["pool"], identity["precision"]) == ("avg + flatten + max", "float32")
    assert [member["preprocessing"]["input_size"][1] for member in identity["members"]] == [64, 96, 96]
    noted = ensemble.provenance["members"]
    assert [member["weights"] for member in noted] == [m.weights_digest for m in ensemble.members]
    assert make(*MEMBERS).weights_digest == ensemble.weights_digest
    assert make(*MEMBERS[:2]).weights_digest != ensemble.weights_digest
    assert make(MEMBERS[1], MEMBERS[0], MEMBERS[2]).weights_digest != ensemble.weights_digest
    assert make(MEMBERS[0]).weights_digest != ensemble.members[0].weights_digest


def test_members_see_the_same_variant_of_an_image():
    made = make({"name": TINY}, {"name": TINY}, image_size=64)
    augment = made.augmentation(scale=(0.2, 1.0), hflip=0.5, color_jitter=0.4)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8))
    random.seed(0)
    torch.manual_seed(0)
    variants = [augment(image).reshape(2, -1) for _ in range(3)]
    assert all(np.array_equal(first, second) for first, second in variants)
    assert not np.array_equal(variants[0], variants[1])


def test_a_checkpoint_builds_it_from_plain_settings():
    config = {
        "_target_": "mlic.models.EnsembleBackbone",
        "members": [dict(member) for member in MEMBERS],
        "pretrained": False,
        "precision": "float32",
    }
    torch.manual_seed(0)
    assert build(config).weights_digest == make(*MEMBERS).weights_digest
    with pytest.raises(InputError, match=r"uses 'os\.system'"):
        build({**config, "members": [{"_target_": "os.system", "name": "true"}]})
