"""The networks of conf/model are in timm, and their files say what timm says."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from timm.models import get_pretrained_cfg
from torch.utils.flop_counter import FlopCounterMode

from mlic.config import CONFIG_DIR
from mlic.models import pooling, weights

FILES = {
    path.stem: path
    for path in sorted((Path(CONFIG_DIR) / "model").glob("*.yaml"))
    if "GMACs" in path.read_text()
}
FIGURES = re.compile(
    r"# (?P<parameters>[\d.]+) M parameters, (?P<pixels>\d+) px, (?P<gmacs>[\d.]+) GMACs \(counted by torch\), "
    r"(?P<features>\d+) features, (?P<bytes>\d+) bytes per image\n"
    r"# pool: .*Licence of the weights: (?P<license>\S+)\n"
)


def test_the_list_is_complete():
    assert sorted(FILES) == [
        "dinov2_b14", "dinov2_s14", "dinov3_b16", "dinov3_convnext_t", "dinov3_l16", "eva02_l14", "mobilenetv4_m",
        "pe_core_l14", "siglip2_b16", "siglip2_b32", "siglip2_so400m",
    ]  # fmt: skip


@pytest.mark.parametrize("choice", FILES)
@torch.no_grad()
def test_a_file_says_what_timm_says(choice: str):
    text = FILES[choice].read_text()
    found = FIGURES.search(text)
    assert found is not None
    config: Any = OmegaConf.load(FILES[choice])
    backbone = config.backbone
    known = get_pretrained_cfg(backbone.name)
    assert known is not None and known.has_weights and config.name == choice
    assert known.license == found["license"]
    assert backbone.get("image_size", known.input_size[1]) == int(found["pixels"])
    with torch.device("meta"):  # no memory, and no arithmetic
        network: Any = weights.build_network(backbone.name, backbone.get("image_size")).requires_grad_(False)
        side = int(found["pixels"])
        with FlopCounterMode(display=False) as counter:
            output = network.forward_features(torch.zeros(1, 3, side, side))
            features = pooling.read_out(network, output, backbone.pool, (side, side))
    network.reset_classifier(0)
    parameters = sum(weight.numel() for weight in network.parameters())
    assert parameters / 1e6 == pytest.approx(float(found["parameters"]), abs=0.006)
    assert counter.get_total_flops() / 2e9 == pytest.approx(float(found["gmacs"]), rel=0.02)
    assert features.shape[1] == int(found["features"]) == int(found["bytes"]) / 2
    own = {"map": "map", "cls": "token", "avg": "avg"}.get(backbone.pool)
    assert own is None or network.global_pool == own


def test_licences_that_restrict_the_use_are_told_apart():
    free = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
    assert all(map(weights.is_free, free))
    assert not any(map(weights.is_free, ("cc-by-nc-4.0", "dinov3-license", "other", "unknown", "gemma")))
