"""Run folders made by hand, with predictions whose metrics are known."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlic.compare import compare
from mlic.config import compose
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.report.reading import ReportedRun, read_run

ODD_CLASSES = ("<script>alert(1)</script>", "a \"quoted\" & 'name'", "bär $x^2$ | *star*", "never")
ODD_FILE = "<img src=x onerror=alert(1)> \"ü\" & 'q'.jpg"
EPOCHS = 3

WriteRun = Callable[..., Path]


def simulate(seed: int, images: int, classes: int, shift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores in (0, 1), higher for positives, and targets; every class has a positive."""
    random = np.random.default_rng(seed)
    targets = (random.random((images, classes)) < 0.3).astype(np.uint8)
    targets[np.arange(classes), np.arange(classes)] = 1
    scores = 1 / (1 + np.exp(-(random.normal(size=targets.shape) + shift * targets - 1)))
    return scores.astype(np.float32), targets


def _write_run(
    folder: Path,
    scores: np.ndarray,
    targets: np.ndarray,
    classes: Sequence[str],
    *,
    file_names: Sequence[str] | None = None,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    thresholds: Mapping[str, float] | None = None,
    name: str = "net",
    images: Path | None = None,
    status: Mapping[str, Any] | None = None,
) -> Path:
    """A finished run with these test predictions; `status` overrides what status.json says."""
    (folder / "predictions").mkdir(parents=True)
    parts = {"test": (file_names or [f"{row:04d}.jpg" for row in range(len(scores))], scores, targets)}
    if val is not None:
        parts["val"] = ([f"v{row:04d}.jpg" for row in range(len(val[0]))], *val)
    for part, (names, own_scores, own_targets) in parts.items():
        predictions = Predictions(np.array(names, dtype=object), own_scores, own_targets, tuple(classes))
        predictions.write_parquet(folder / "predictions" / f"{part}.parquet")
    train = {"loss": 0.25, **evaluate_scores(scores, targets, classes)}
    seconds = {"backbone": 0.5, "data": 0.25, "features": 8.0, "fit": 6.0, "test": 0.125}
    started = {"state": "finished", "error": None, "seconds": seconds, "started": "2030-01-01T00:00:00+00:00"}
    counts = dict(zip(classes, (10 * targets.sum(axis=0) + 1).tolist(), strict=True))
    files: dict[str, Any] = {
        "metrics": {"train": train, "val": {**train, "map": 0.5}, "test": train},
        "status": {**started, **(status or {})},
        "model": {
            "name": name, "weights_tag": f"{name}.in1k", "image_size": 224, "feature_shape": [8, 2, 2],
            "backbone_parameters": 1_234_567, "head_parameters": 890, "pool": "none", "precision": "float32",
        },
        "dataset": {
            "classes": list(classes),
            "images": {"train": 100, "val": 10, "test": len(scores)},
            "counts": dict.fromkeys(("train", "val", "test", "before_curation"), counts),
            "curation": {"dropped_classes": {"rare": 1}},
            "split": {"hash": "0123456789abcdef"},
            "source": {"images": None if images is None else str(images)},
        },
        "thresholds": {"common": 0.5, "per_class": thresholds or dict.fromkeys(classes, 0.4), "fitted_on": "val"},
    }  # fmt: skip
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    metrics = ("loss", "map", "auc_macro", "precision_micro", "recall_micro")
    curves = {f"{part}/{key}": np.linspace(0.2, 0.8, EPOCHS) for part in ("train", "val") for key in metrics}
    pd.DataFrame({"epoch": np.arange(EPOCHS), **curves}).to_csv(folder / "epochs.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """(folder, scores, targets, classes, ...) -> the folder, written."""
    return _write_run


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ReportedRun]:
    """(name, scores, targets, classes, ...) -> a run of that name, with these test predictions."""

    def make(name: str, *arguments: Any, **options: Any) -> ReportedRun:
        run = read_run(_write_run(tmp_path / name, *arguments, name=name, **options))
        run.name = name
        return run

    return make


@pytest.fixture(scope="session")
def made() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(seed, images, classes, shift) -> scores and targets."""
    return simulate


@pytest.fixture(scope="session")
def odd_classes() -> tuple[str, ...]:
    """Names that HTML, Markdown, JavaScript or formulas would take for something else; `never` is for no positive."""
    return ODD_CLASSES


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report over two finished runs with odd names, one with photographs, a failed run, and one without a test."""
    folder = tmp_path_factory.mktemp("sweep")
    images = folder / "images"
    images.mkdir()
    names = [ODD_FILE, *(f"{row:02d}.jpg" for row in range(1, 24))]
    for name in names:
        Image.new("RGB", (40, 30), "teal").save(images / name)
    targets = np.pad(simulate(0, 24, 3)[1], ((0, 0), (0, 1)))  # none of the last class
    for number, (name, place) in enumerate({"two": folder / "gone", "<b>one": images}.items()):
        scores = np.pad(simulate(number, 24, 3)[0], ((0, 0), (0, 1)))
        scores[0] = 1 - targets[0]
        options: dict[str, Any] = {"name": name, "images": place, "file_names": names}
        _write_run(
            folder / str(number) / name, scores, targets, ODD_CLASSES, val=(scores, targets), **options
        )
    error = {"type": "InputError", "message": "labels.csv: <i>no such file</i>"}
    failed = {"state": "failed", "error": error}
    _write_run(folder / "broken", scores, targets, ODD_CLASSES, name="broken", status=failed)
    without = _write_run(folder / "untested", scores, targets, ODD_CLASSES, name="untested")
    (without / "predictions" / "test.parquet").unlink()
    output = tmp_path_factory.mktemp("report") / "out"
    overrides = (f"runs='{folder}'", "reference=report", "resamples=20", "gallery_images=3")
    assert compare(compose(*overrides, output=output, config_name="compare")) == output / "index.html"
    return output
