"""The networks of conf/model are in timm, and their files say what timm says."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from timm.models import get_pretrained_cfg
from torch.utils.flop_counter import FlopCounterMode

from mlic.config import CONFIG_DIR, compose
from mlic.models import pooling, weights
from mlic.models.__main__ import FIGURES, main
from mlic.models.structure import list_steps

FILES = {
    path.stem: path
    for path in sorted((Path(CONFIG_DIR) / "model").glob("*.yaml"))
    if "GMACs" in path.read_text()
}


def test_the_command_lists_all_of_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["mlic.models"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "M", "pixels", "GMACs", "features", "licence", "here", "weights"]
    assert lines[1].split()[:7] == ["efficientnet_lite0", "3.37", "224", "0.38", "1280", "apache-2.0", "yes"]
    everything = {path.stem for path in (Path(CONFIG_DIR) / "model").glob("[!_]*.yaml")}
    assert {line.split()[0] for line in lines[1 : 1 + len(FILES)]} == everything - {"timm", "ensemble"}


def test_a_drawing_has_all_parameters_and_the_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    steps = list_steps(compose("model=vgg16", output=tmp_path), num_classes=51)
    assert steps[0].shape == (3, 224, 224)
    assert (
        sum(step.parameters for step in steps if step.kind == "frozen") == 14_714_688
    )  # of Keras without top
    head = [(step.shape, step.parameters) for step in steps if step.kind == "trained"]
    assert head == [((256,), 25088 * 256 + 256), ((51,), 256 * 51 + 51)]
    one_shape = list_steps(compose("model=dinov2_s14", output=tmp_path), num_classes=51)
    assert [step.name for step in one_shape[:3]] == ["image", "patch_embed … norm", "pooling: cls"]
    monkeypatch.setattr(sys, "argv", ["mlic.models", "vgg16", "--output", str(tmp_path / "vgg16.png")])
    main()
    assert (tmp_path / "vgg16.png").stat().st_size > 10_000


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
    assert known.license == found["licence"]
    assert backbone.get("image_size", known.input_size[1]) == int(found["pixels"])
    with torch.device("meta"):  # no memory, and no arithmetic
        network: Any = weights.build_network(backbone.name, backbone.get("image_size")).requires_grad_(False)
        side = int(found["pixels"])
        with FlopCounterMode(display=False) as counter:
            output = network.forward_features(torch.zeros(1, 3, side, side))
            features = pooling.read_out(network, output, backbone.pool, (side, side))
    network.reset_classifier(0)
    if hasattr(
        network, "pre_logits"
    ):  # of VGG, which mlic drops, because flattened features do not depend on it
        del network.pre_logits
    parameters = sum(weight.numel() for weight in network.parameters())
    assert parameters / 1e6 == pytest.approx(float(found["M"]), abs=0.006)
    assert counter.get_total_flops() / 2e9 == pytest.approx(float(found["GMACs"]), rel=0.02)
    assert features.shape[1] == int(found["features"])
    assert f" features, {2 * features.shape[1]} bytes per image" in text
    own = {"map": "map", "cls": "token", "avg": "avg"}.get(backbone.pool)
    assert own is None or getattr(network.global_pool, "pool_type", network.global_pool) == own


def test_licences_that_restrict_the_use_are_told_apart():
    free = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
    assert all(map(weights.is_free, free))
    assert not any(map(weights.is_free, ("cc-by-nc-4.0", "dinov3-license", "other", "unknown", "gemma")))
