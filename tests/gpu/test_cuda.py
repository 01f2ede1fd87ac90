"""The paths that only a GPU takes: features, training, resuming, several processes, closed form and predictions.

They run by `make gpu`. MLIC_TEST_DEVICE=cpu runs the same bodies on the CPU, to check the tests themselves.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from mlic.evaluation.predictions import Predictions
from mlic.features import source
from mlic.features.dataset import MemoryRows
from mlic.inference import Classifier
from mlic.models.precision import has_native_bfloat16
from mlic.train import train
from mlic.training import run as run_module

DEVICE = os.environ.get("MLIC_TEST_DEVICE", "cuda")
CUDA = DEVICE == "cuda"
REPOSITORY = Path(__file__).parents[2]
TRAINER = (f"trainer={DEVICE}", "trainer.precision=32-true")
# features of float32 networks, on a GPU in TF32 or other orders of summation
TOLERANCE = 5e-3

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CUDA and not torch.cuda.is_available(), reason="there is no CUDA device"),
]
MakeConfig = Callable[..., DictConfig]


def scores(folder: Path, part: str = "test") -> np.ndarray:
    return Predictions.read_parquet(folder / "predictions" / f"{part}.parquet").scores


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_features_of_the_device_equal_those_of_the_cpu(
    precision: str, tiny_config: MakeConfig, tmp_path: Path
):
    """Each device has its own store; the number format of the device changes features within its rounding."""
    found = {}
    for name, trainer in {"cpu": ("trainer=cpu",), "device": TRAINER}.items():
        own = "float32" if name == "cpu" else precision
        settings = (
            f"model.backbone.precision={own}", f"features.dir={tmp_path / name}", "features.dtype=float32",
            "head=ridge", "data.split.val=0",
        )  # fmt: skip
        folder = tmp_path / f"run_{name}"
        train(tiny_config(*trainer, *settings, output=folder))
        found[name] = scores(folder)
    rounding = TOLERANCE if precision == "float32" else 0.1
    assert np.abs(found["device"] - found["cpu"]).max() < rounding
    if precision == "auto":
        model = json.loads((tmp_path / "run_device" / "model.json").read_text())
        native = has_native_bfloat16(torch.device(DEVICE))
        assert model["precision"] == ("bfloat16" if native else "float16" if CUDA else "float32")


@pytest.mark.parametrize(
    "settings",
    [
        (), ("head=attention", "loss=asymmetric"), ("head=blend", "data.split.val=0"), ("head=knn",),
        ("features.memory_gb=0.0001",),  # streamed from disk
        ("features=live",), ("features=augmented", "model.backbone.unfreeze=1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_run_trains_and_its_scores_are_those_of_predict(
    settings: tuple[str, ...], tiny_config: MakeConfig, tiny_images: Path, tmp_path: Path
):
    train(tiny_config(*TRAINER, *settings))
    folder = tmp_path / "run"
    tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    assert np.isfinite(tested.scores).all() and metrics(folder)["test"]["map"] > 0
    for device in (DEVICE, "cpu"):  # a checkpoint made on a GPU is loaded on a machine without one
        classifier = Classifier.load(folder, device=device)
        images = [tiny_images / name for name in tested.file_names]
        table = classifier.predict(images, num_workers=0)
        predicted = table[[f"score:{name}" for name in tested.classes]].to_numpy()
        np.testing.assert_allclose(predicted, tested.scores, atol=TOLERANCE)


def test_mixed_precision_trains(tiny_config: MakeConfig, tmp_path: Path):
    """trainer=cuda is bf16-mixed; its loss is computed in float32 and its curve falls."""
    precision = "bf16-mixed" if has_native_bfloat16(torch.device(DEVICE)) else "16-mixed"
    train(tiny_config(f"trainer={DEVICE}", f"trainer.precision={precision}", "trainer.max_epochs=5"))
    losses = pd.read_csv(tmp_path / "run" / "epochs.csv")["train/loss"]
    assert np.isfinite(losses).all() and losses.iloc[-1] < losses.iloc[0]


def test_features_that_fit_are_held_on_the_device(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    devices = []

    class RecordedRows(MemoryRows):
        def __init__(self, features: torch.Tensor, device: torch.device) -> None:
            super().__init__(features, device)
            devices.append(self.features.device.type)

    monkeypatch.setattr(source, "MemoryRows", RecordedRows)
    train(tiny_config(*TRAINER))
    assert devices == [DEVICE]


def test_resuming_gives_the_metrics_of_an_unbroken_run(
    tiny_config: MakeConfig, interrupt: Callable[..., None], tmp_path: Path
):
    """Weights of an interrupted run differ at most by the order of summation on the device."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(tiny_config(*TRAINER, output=whole))
    config = tiny_config(*TRAINER, output=broken)
    interrupt(train, config, run_module.MultiLabelClassifier, "on_validation_epoch_end")
    train(tiny_config(*TRAINER, "resume=auto", output=broken))
    np.testing.assert_allclose(scores(broken), scores(whole), atol=TOLERANCE)


def test_torchrun_trains_with_one_process_per_gpu(tiny_overrides: Callable[..., list[str]], tmp_path: Path):
    processes = torch.cuda.device_count() if CUDA else 1
    settings = [item for item in tiny_overrides() if not item.startswith("trainer=")]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={processes}", "-m", "mlic.train", "trainer=ddp", *settings),
        *(f"trainer.accelerator={'gpu' if CUDA else 'cpu'}", f"output={tmp_path / 'run'}"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "run")["test"]["map"] > 0
