"""Engines of the frozen forward pass."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from mlic.errors import InputError
from mlic.models import FrozenBackbone, engines
from mlic.models.quantization import CALIBRATION

IMAGES = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


def backbone(engine: str, name: str = "test_efficientnet", **options: Any) -> FrozenBackbone:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"image_size": 64, "precision": "float32", **options}
    return FrozenBackbone(name, pretrained=False, engine=engine, **settings).optimize_for(CPU)


@pytest.mark.parametrize(
    "options", [{"mirror": True}, {"pool": "none"}, {"name": "test_vit", "image_size": 160}]
)
def test_onnxruntime_gives_the_features_of_torch(options: dict[str, Any]):
    expected, found = (backbone(engine, **options) for engine in ("torch", "onnxruntime"))
    images = torch.randint(0, 256, (2, 3, expected.image_size, expected.image_size), dtype=torch.uint8)
    torch.testing.assert_close(found(images), expected(images), atol=1e-4, rtol=1e-4)
    assert found.identity == expected.identity


@pytest.mark.parametrize("fastest", [engines.CHANNELS_LAST, engines.CONTIGUOUS, engines.ONNX])
def test_the_fastest_engine_is_used_and_remembered(fastest, tmp_path, monkeypatch, caplog):
    file, made = tmp_path / "engines.json", []
    make = engines.make_engine

    def record(name: str, *arguments: Any) -> engines.Engine:
        made.append(name)
        return make(name, *arguments)

    monkeypatch.setattr(engines, "make_engine", record)
    monkeypatch.setattr(engines, "_measure", lambda *_: 1.0 if made[-1] == fastest else 2.0)
    expected = backbone("torch")(IMAGES)
    first, second = backbone("auto"), backbone("auto")
    with caplog.at_level(logging.INFO):
        first.choose_engine(IMAGES, file)
    assert first.engine == fastest and f"engine: {fastest} (images/s" in caplog.text
    torch.testing.assert_close(first(IMAGES), expected, atol=1e-4, rtol=1e-4)
    assert list(json.loads(file.read_text()).values()) == [fastest]
    made.clear()
    second.choose_engine(IMAGES, file)
    assert made == [fastest]


def test_an_engine_with_other_features_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        engines, "onnx_engine", lambda network, pixels: lambda images: network.forward_features(images) * 1.01
    )
    monkeypatch.setattr(engines, "_measure", lambda engine, pixels: 1.0)
    own, reduced = backbone("auto"), backbone("auto", precision="bfloat16")
    own.choose_engine(IMAGES, tmp_path / "engines.json")
    assert own.engine in (engines.CHANNELS_LAST, engines.CONTIGUOUS)
    reduced.choose_engine(IMAGES, tmp_path / "engines.json")
    assert reduced.engine == "auto"


def test_a_network_that_cannot_be_converted_stays_with_torch(tmp_path, monkeypatch, caplog):
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    own = backbone("auto")
    with caplog.at_level(logging.INFO):
        own.choose_engine(IMAGES, tmp_path / "engines.json")
    assert own.engine != engines.ONNX and "unsupported operator" in caplog.text
    with pytest.raises(InputError, match="cannot be converted"):
        backbone("onnxruntime")(IMAGES)


def test_int8_is_near_float32_and_has_a_store_of_its_own():
    expected, found = backbone("torch"), backbone("auto", precision="int8")
    similarity = torch.nn.functional.cosine_similarity(found(IMAGES), expected(IMAGES))
    assert float(similarity.min()) > 0.9 and float(similarity.max()) < 1 - 1e-6
    again = backbone("auto", precision="int8")
    torch.testing.assert_close(again(IMAGES), found(IMAGES))
    assert again.identity == found.identity
    assert found.identity == {**expected.identity, "precision": "int8", "calibration": CALIBRATION}


def test_onnxruntime_needs_its_packages_and_float32_or_int8(monkeypatch):
    with pytest.raises(InputError, match="float32 or int8 on a CPU"):
        backbone("onnxruntime", precision="bfloat16")
    with pytest.raises(InputError, match="int8 requires"):
        backbone("torch", precision="int8")
    with pytest.raises(InputError, match=r"model\.backbone\.engine"):
        backbone("tensorrt")
    monkeypatch.setattr("mlic.models.backbone.has_onnxruntime", lambda: False)
    with pytest.raises(InputError, match=r"requires .*\[onnx\]"):
        backbone("onnxruntime")  # before any image is computed
