"""The four models of the report build, extract and train a head, with random weights; and say so without any."""

import json
from pathlib import Path

import huggingface_hub
import pytest

from mlic.config import compose
from mlic.errors import InputError
from mlic.train import train

FEATURES = {
    "vgg16": [512 * 7 * 7],
    "inception_v3": [2048 * 8 * 8],
    "resnet152v2": [4096 * 7 * 7],
    "nasnetlarge": [4032 * 11 * 11],
}
LARGE = ("nasnetlarge", "resnet152v2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=pytest.mark.long if name in LARGE else ()) for name in FEATURES]
)
def test_model_of_the_report_trains_with_random_weights(
    model: str, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    annotations, images = tiny_csv
    overrides = (
        "experiment=report", "data=csv", f"data.annotations={annotations}", f"data.images={images}",
        "data.num_images=10", "data.split.test=0.2", "data.split.on_missing=warn", "~data.class_weights.scale.person",
        f"model={model}", "model.backbone.pretrained=false", "features.num_workers=0", "features.batch_size=2",
        f"features.dir={tmp_path / 'store'}",
        "trainer.max_epochs=1", "trainer=cpu", "optimizer=sgd",
    )  # fmt: skip
    results = train(compose(*overrides, output=tmp_path / "run"))
    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert described["feature_shape"] == FEATURES[model]
    assert described["weights_tag"] == "random"
    assert set(results) == {"train", "test"}


def test_without_network_the_error_names_the_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy"):  # a proxy that refuses stands for no network, on any machine
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"no weights found for 'nasnetalarge\.tf_in1k'") as raised:
        train(compose("model=nasnetlarge", output=tmp_path / "run"))
    for way in ("model.backbone.weights=", "pip install", "Hugging Face hub", "pretrained=false"):
        assert way in str(raised.value)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
