"""A compiled backbone: the same features up to rounding, in stores of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mlic.models import FrozenBackbone

NAME = "test_efficientnet"
WITHOUT_COMPILER = f"""
import torch
from mlic.errors import InputError
from mlic.models import FrozenBackbone
backbone = FrozenBackbone("{NAME}", pretrained=False, precision="float32", compile=True)
backbone.optimize_for(torch.device("cpu"))
try:
    backbone(torch.zeros(1, 3, backbone.image_size, backbone.image_size, dtype=torch.uint8))
except InputError as error:
    print(error)
"""


def make(**options: object) -> FrozenBackbone:
    torch.manual_seed(0)
    backbone = FrozenBackbone(NAME, pretrained=False, precision="float32", **options)  # pyright: ignore
    return backbone.optimize_for(torch.device("cpu"))


def test_only_a_compiled_backbone_says_so_in_its_identity():
    plain, fast = make().identity, make(compile=True).identity
    assert fast.pop("compiled") is True
    assert fast == plain


@pytest.mark.slow
def test_features_are_the_same_up_to_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, fast = make(), make(compile=True)
    images = torch.randint(0, 256, (8, 3, plain.image_size, plain.image_size), dtype=torch.uint8)
    assert torch.allclose(fast(images), plain(images), rtol=1e-3, atol=1e-4)
    assert list(tmp_path.rglob("*.so"))  # code was made
    assert fast.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.slow
def test_without_a_compiler(tmp_path: Path):
    environment = {**os.environ, "CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("model.backbone.compile: torch.compile cannot make code")
    assert "CXX" in done.stdout
