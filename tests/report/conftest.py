"""Run folders made by hand, with predictions whose metrics are known; and Chromium over its WebDriver protocol."""

import base64
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

from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions

ODD_CLASSES = ("<script>alert(1)</script>", "a \"quoted\" & 'name'", "bär $x^2$ | *star*", "never")
EPOCHS = 3

WriteRun = Callable[..., Path]


def simulate(seed: int, images: int, classes: int, shift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores in (0, 1), higher for positives, and targets; every class has a positive."""
    random = np.random.default_rng(seed)
    targets = (random.random((images, classes)) < 0.3).astype(np.uint8)
    targets[np.arange(classes), np.arange(classes)] = 1
    scores = 1 / (1 + np.exp(-(random.normal(size=targets.shape) + shift * targets - 1)))
    return scores.astype(np.float32), targets


def _epochs() -> pd.DataFrame:
    names = ("loss", "map", "auc_macro", "precision_micro", "recall_micro")
    values = {f"{part}/{name}": np.linspace(0.2, 0.8, EPOCHS) for part in ("train", "val") for name in names}
    return pd.DataFrame({"epoch": np.arange(EPOCHS), **values})


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
    overrides: Sequence[str] = (),
) -> Path:
    """A finished run with these test predictions; `status` overrides what status.json says."""
    (folder / "predictions").mkdir(parents=True)
    names = np.array(file_names or [f"{row:04d}.jpg" for row in range(len(scores))], dtype=object)
    Predictions(names, scores, targets, tuple(classes)).write_parquet(folder / "predictions" / "test.parquet")
    if val is not None:
        rows = np.array([f"v{row:04d}.jpg" for row in range(len(val[0]))], dtype=object)
        Predictions(rows, *val, tuple(classes)).write_parquet(folder / "predictions" / "val.parquet")
    train = {"loss": 0.25, **evaluate_scores(scores, targets, classes)}
    counts = dict(zip(classes, (10 * targets.sum(axis=0) + 1).tolist(), strict=True))
    content = {
        "status.json": {
            "state": "finished",
            "error": None,
            "seconds": {
                "backbone": 0.5,
                "data": 0.25,
                "features": 8.0,
                "records": 0.0625,
                "fit": 6.0,
                "test": 0.125,
            },
            "started": "2030-01-01T00:00:00+00:00",
            **(status or {}),
        },
        "model.json": {
            "name": name,
            "weights_tag": f"{name}.in1k",
            "image_size": 224,
            "feature_shape": [8, 2, 2],
            "backbone_parameters": 1_234_567,
            "head_parameters": 890,
            "pool": "none",
            "precision": "float32",
        },
        "dataset.json": {
            "classes": list(classes),
            "images": {"train": 100, "val": 10, "test": len(scores)},
            "counts": {"train": counts, "val": counts, "test": counts, "before_curation": counts},
            "curation": {"dropped_classes": {"rare": 1}},
            "split": {"hash": "0123456789abcdef"},
            "source": {"images": None if images is None else str(images)},
        },
        "metrics.json": {"train": train, "val": {**train, "map": 0.5}, "test": train},
    }
    if thresholds is not None:
        content["thresholds.json"] = {"common": 0.5, "per_class": dict(thresholds), "fitted_on": "val"}
    for file, value in content.items():
        (folder / file).write_text(json.dumps(value))
    _epochs().to_csv(folder / "epochs.csv", index=False)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(
        "".join(f"- {json.dumps(item)}\n" for item in overrides)
    )
    return folder


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


class Browser:
    """A Chromium of its own, driven over the W3C WebDriver protocol that chromedriver speaks."""

    def __init__(self, port: int, options: Mapping[str, Any]) -> None:
        """Open a session with the driver at `port`."""
        self.base = f"http://127.0.0.1:{port}/session"
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = self._send("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self.base += "/" + answer["sessionId"]

    def open(self, page: Path, width: int) -> None:
        """Open a file in a window of this width in CSS pixels."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._cdp("Emulation.setDeviceMetricsOverride", metrics)
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

    def screenshot(self) -> bytes:
        """The visible part as PNG."""
        return base64.b64decode(self._send("GET", "/screenshot"))

    def close(self) -> None:
        """End the session and its Chromium."""
        self._send("DELETE", "")

    def _cdp(self, command: str, values: Mapping[str, Any]) -> Any:
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": dict(values)})

    def _send(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            self.base + path, body, {"Content-Type": "application/json"}, method=method
        )
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
    folder = tmp_path_factory.mktemp("browser")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(
            int(found[1])
            for line in process.stdout
            if (found := re.search(r"successfully on port (\d+)", line))
        )
        flags = [*BROWSER_FLAGS, f"--user-data-dir={folder}"]
        opened = Browser(port, {"binary": chromium, "args": flags})
        yield opened
        opened.close()
    finally:
        process.terminate()
        process.wait(timeout=10)
