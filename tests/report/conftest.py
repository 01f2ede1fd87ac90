"""Run folders made by hand, with predictions whose metrics are known; and Chromium over its WebDriver protocol."""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content))


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
    names = file_names or [f"{row:04d}.jpg" for row in range(len(scores))]
    _write_predictions(folder / "predictions" / "test.parquet", names, scores, targets, classes)
    if val is not None:
        rows = [f"v{row:04d}.jpg" for row in range(len(val[0]))]
        _write_predictions(folder / "predictions" / "val.parquet", rows, *val, classes)
    train = {"loss": 0.25, **evaluate_scores(scores, targets, classes)}
    _write_json(folder / "metrics.json", {"train": train, "val": {**train, "map": 0.5}, "test": train})
    seconds = {"backbone": 0.5, "data": 0.25, "features": 8.0, "fit": 6.0, "test": 0.125}
    started = {"state": "finished", "error": None, "seconds": seconds, "started": "2030-01-01T00:00:00+00:00"}
    _write_json(folder / "status.json", {**started, **(status or {})})
    network = {"name": name, "weights_tag": f"{name}.in1k", "image_size": 224, "feature_shape": [8, 2, 2]}
    sizes = {"backbone_parameters": 1_234_567, "head_parameters": 890}
    _write_json(folder / "model.json", {**network, **sizes, "pool": "none", "precision": "float32"})
    counts = dict(zip(classes, (10 * targets.sum(axis=0) + 1).tolist(), strict=True))
    data_set = {
        "classes": list(classes),
        "images": {"train": 100, "val": 10, "test": len(scores)},
        "counts": dict.fromkeys(("train", "val", "test", "before_curation"), counts),
        "curation": {"dropped_classes": {"rare": 1}},
        "split": {"hash": "0123456789abcdef"},
        "source": {"images": None if images is None else str(images)},
    }
    _write_json(folder / "dataset.json", data_set)
    if thresholds is not None:
        fitted = {"common": 0.5, "per_class": dict(thresholds), "fitted_on": "val"}
        _write_json(folder / "thresholds.json", fitted)
    metrics = ("loss", "map", "auc_macro", "precision_micro", "recall_micro")
    curves = {f"{part}/{key}": np.linspace(0.2, 0.8, EPOCHS) for part in ("train", "val") for key in metrics}
    pd.DataFrame({"epoch": np.arange(EPOCHS), **curves}).to_csv(folder / "epochs.csv", index=False)
    return folder


def _write_predictions(
    path: Path, names: Sequence[str], scores: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> None:
    Predictions(np.array(names, dtype=object), scores, targets, tuple(classes)).write_parquet(path)


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """(folder, scores, targets, classes, ...) -> the folder, written."""
    return _write_run


@pytest.fixture(scope="session")
def made() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(seed, images, classes, shift) -> scores and targets."""
    return simulate


@pytest.fixture(scope="session")
def odd_classes() -> tuple[str, ...]:
    """Names that HTML, Markdown, JavaScript or formulas would take for something else; `never` is for no positive."""
    return ODD_CLASSES


@pytest.fixture(scope="session")
def odd_file() -> str:
    """Name of a photograph in the report."""
    return ODD_FILE


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
    for number, (name, place) in enumerate({"two": folder / "gone", "<b>one</b>": images}.items()):
        scores = np.pad(simulate(number, 24, 3)[0], ((0, 0), (0, 1)))
        scores[0] = 1 - targets[0]
        options: dict[str, Any] = {
            "name": name,
            "images": place,
            "file_names": names,
            "val": (scores, targets),
        }
        _write_run(folder / str(number), scores, targets, ODD_CLASSES, **options)
    failed = {
        "state": "failed",
        "error": {"type": "InputError", "message": "labels.csv: <i>no such file</i>"},
    }
    _write_run(folder / "failed", scores, targets, ODD_CLASSES, name="broken", status=failed)
    without = _write_run(folder / "untested", scores, targets, ODD_CLASSES, name="untested")
    (without / "predictions" / "test.parquet").unlink()
    output = tmp_path_factory.mktemp("report") / "out"
    overrides = (f"runs='{folder}'", "reference=report", "resamples=20", "gallery_images=3")
    assert compare(compose(*overrides, output=output, config_name="compare")) == output / "index.html"
    return output


class Browser:
    """A Chromium of its own, driven over the W3C WebDriver protocol that chromedriver speaks."""

    def __init__(self, port: int, options: Mapping[str, Any]) -> None:
        self.base = f"http://127.0.0.1:{port}/session"
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._send(
            "POST", "", {"capabilities": {"alwaysMatch": {"browserName": "chrome", **wanted}}}
        )
        self.base += "/" + answer["sessionId"]

    def open(self, page: Path, width: int) -> None:
        """Open a file in a window of this width in CSS pixels."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._send("POST", "/goog/cdp/execute", command)
        self._send("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *values: Any) -> Any:
        """The value that a script returns."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(values)})

    def click(self, selector: str) -> None:
        """Scroll to the element and click its middle, as a user does."""
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        self._send("POST", f"/element/{next(iter(found.values()))}/click", {})

    def messages(self) -> list[str]:
        """Warnings and errors of the console since the last call."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def close(self) -> None:
        """End the session and its Chromium."""
        self._send("DELETE", "")

    def _send(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        # no proxy: it is this machine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error


BROWSER_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Skips where there is no Chromium with its driver; under CI that is a failure."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no chromium and chromedriver")
    flags = [*BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        announced = (re.search(r"successfully on port (\d+)", line) for line in process.stdout)
        port = next(int(found[1]) for found in announced if found)
        opened = Browser(port, {"binary": chromium, "args": flags})
        yield opened
        opened.close()
    finally:
        process.terminate()
        process.wait(timeout=10)
