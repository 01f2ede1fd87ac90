"""The page of mlic.app: labels and their reasons, corrections, and the page itself in Chromium."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from PIL import Image

from mlic.app import app
from mlic.config import compose
from mlic.data import read_csv
from mlic.errors import InputError
from mlic.inference.classifier import Classifier
from mlic.inference.corrections import add_correction, read_corrections
from mlic.inference.labelling import PhotographLabeller, ScoredPhotograph, score_table
from mlic.models.classifier import CHECKPOINT_KEY

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("drive_app.py")
HOSTILE = "<img src=http://127.0.0.1:9/x onerror=alert(1)>${alert(2)}"


@pytest.fixture(scope="module")
def labeller(tiny_run: Path) -> PhotographLabeller:
    return PhotographLabeller(Classifier.load(tiny_run, device="cpu"))


def test_a_training_photograph_is_most_similar_to_itself_and_has_its_labels(
    labeller: PhotographLabeller, tiny_run: Path, tiny_images: Path, tiny_labels: dict[str, tuple[str, ...]]
):
    assert labeller.not_available == []
    lines = (tiny_run / "split.csv").read_text().splitlines()
    names = [line.split(",")[0] for line in lines if ",train," in line]
    for name in names[::10]:
        photograph = labeller.score(tiny_images / name)
        (thumbnail, caption), *others = labeller.similar(photograph)
        assert caption == f"1.00: {', '.join(sorted(tiny_labels[name])) or 'no label'}" and len(others) == 5
        assert np.abs(np.asarray(thumbnail, int) - np.asarray(Image.open(tiny_images / name), int)).mean() < 1
        overlay = labeller.activation_map(photograph, "square")
        assert overlay is not None and overlay.size == (labeller.classifier.backbone.image_size,) * 2


def test_scores_are_those_of_predict_and_strictness_moves_all_thresholds(
    labeller: PhotographLabeller, tiny_images: Path
):
    path, classes = tiny_images / "shapes_08.jpg", labeller.classifier.classes
    photograph = labeller.score(path)
    row = labeller.classifier.predict([path], num_workers=0).iloc[0]
    np.testing.assert_allclose(photograph.scores, [row[f"score:{name}"] for name in classes], atol=1e-5)
    assert labeller.labels(photograph, 0) == [*filter(None, row["labels"].split("|"))]
    found = [set(labeller.labels(photograph, strictness)) for strictness in (-9, -1, 0, 1, 9)]
    assert all(stricter <= looser for looser, stricter in pairwise(found))
    assert (len(found[0]), len(found[-1])) == (4, 0)


def test_explanations_that_a_run_cannot_give_are_named(
    make_run: Callable[..., Path],
    tiny_run: Path,
    live_run: Path,
    changed_checkpoint: Callable[..., Path],
    tmp_path: Path,
):
    def notes(run: Path, **options: Any) -> str:
        return " ".join(PhotographLabeller(Classifier.load(run, device="cpu"), **options).not_available)

    assert "No similar training photographs" in notes(live_run) and "activation maps" not in notes(live_run)
    assert "features of 36 of 36 training" in notes(tiny_run, features_dir=str(tmp_path))
    assert "no split.csv" in notes(changed_checkpoint(lambda content: None))
    assert "No activation maps: the logits of this head have no gradient" in notes(make_run("head=knn"))


def test_names_of_labels_are_text_in_the_table_of_scores():
    picture, scores = Image.new("RGB", (1, 1)), np.array([0.2, 0.9])
    photograph = ScoredPhotograph(Path("a.jpg"), picture, scores, torch.zeros(1))
    table = score_table(["cat", "<script>"], photograph, np.array([0.5, 0.5]))
    assert "<script>" not in table
    assert table.index("&lt;script&gt;") < table.index("cat") and table.count('class="above"') == 1


def test_corrections_are_read_by_the_csv_reader_and_later_ones_replace_earlier(tmp_path: Path):
    names = ["=1+1", "a|b", "dining table", 'say "x"', "[1]", "été, 2"]
    photographs, folder = [tmp_path / name for name in ("IMG 1.jpg", "=2.png")], tmp_path / "corrections"
    for number, photograph in enumerate(photographs):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(photograph)
    add_correction(folder, photographs[0], names[:1])
    written = [add_correction(folder, photographs[0], names), add_correction(folder, photographs[1], [])]
    table = read_csv(folder / "corrections.csv", folder)
    assert table.classes == tuple(sorted(names))
    assert dict(zip(table.file_names, table.labels.sum(axis=1), strict=True)) == {
        written[0]: 6,
        written[1]: 0,
    }
    assert [(folder / name).read_bytes() for name in written] == [path.read_bytes() for path in photographs]
    for other in (b"name;labels\n", b"\xff", b""):
        (folder / "corrections.csv").write_bytes(other)
        for place in (folder, folder / "corrections.csv"):
            with pytest.raises(InputError, match=r"is not a folder of mlic\.app"):
                read_corrections(place)


@pytest.mark.skipif(find_spec("gradio") is not None, reason="Gradio is installed")
def test_without_gradio_the_error_names_the_extra(tmp_path: Path):
    with pytest.raises(InputError, match=r"pip install 'mlic\[app\]'"):
        app(compose("run=runs/first", output=tmp_path / "corrections", config_name="app"))


@pytest.fixture(scope="session")
def app_python() -> Path:
    """Python of an environment with the extra `app` in build/, kept for later; other versions are those of the lock.

    Gradio holds Pillow and tomlkit back.
    """
    folder, lock = ROOT / "build" / "app", (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    python, constraints = folder / "bin" / "python", folder.with_name("app_constraints.txt")
    uv = (sys.executable, "-m", "uv")
    subprocess.run(
        [*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder], check=True
    )
    constraints.write_text("".join(line for line in lock if not line.startswith(("pillow==", "tomlkit=="))))
    install = (*uv, "pip", "install", "--quiet", "--python", python, "--constraints", constraints)
    subprocess.run([*install, "--editable", f"{ROOT}[app]", "playwright>=1.50"], check=True)
    return python


@pytest.fixture
def hostile_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run whose last class has a name that is HTML and JavaScript."""
    folder = Path(shutil.copytree(tiny_run, tmp_path / "<b>run"))
    file = folder / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    info = content[CHECKPOINT_KEY]
    *info["classes"], last = info["classes"]
    info["classes"].append(HOSTILE)
    info["thresholds"]["per_class"][HOSTILE] = info["thresholds"]["per_class"].pop(last)
    torch.save(content, file)
    return folder


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("app")
def test_the_page_in_a_browser(app_python: Path, hostile_run: Path, tiny_images: Path, tmp_path: Path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no chromium")
    uploads, corrections, log = tmp_path / "uploads", tmp_path / "corrections", tmp_path / "log"
    uploads.mkdir()
    (tmp_path / "notes.jpg").write_text("no photograph")
    files = [tiny_images / "shapes_03.jpg", tiny_images / "shapes_04.jpg", tmp_path / "notes.jpg"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as proxy, log.open("w") as stream:
        proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        environment = {
            **os.environ, "TMPDIR": str(uploads), "no_proxy": "127.0.0.1,localhost",
            **dict.fromkeys(proxies, f"http://127.0.0.1:{proxy.getsockname()[1]}"),
        }  # fmt: skip
        settings = [f"run={hostile_run}", f"output={corrections}", f"port={port}", "device=cpu"]
        command = [app_python, "-m", "mlic.app", *settings]
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=stream, stderr=stream)
        try:
            while "shows the page" not in log.read_text():
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            address = f"http://127.0.0.1:{port}/"
            with pytest.raises(OSError, match="400"):
                urlopen(Request(address, headers={"Host": "elsewhere.example"}), timeout=20)
            drive = [app_python, DRIVER, chromium, address, *files]
            done = subprocess.run(drive, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr + log.read_text()
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=30) == 130
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):  # nothing has asked for another address
            proxy.accept()
    seen = json.loads(done.stdout)
    assert (seen["outside"], seen["problems"]) == ([], []) and seen["requests"] > 20
    assert seen["messages"] == ["notes.jpg: not an image in a supported format (JPEG, PNG, GIF, …)"]
    assert seen["rows"] == 5 and HOSTILE in seen["above"]
    assert len(seen["similar"]) == 6 and 0 not in seen["pictures"]
    table = read_csv(corrections / "corrections.csv", corrections)
    assert {*table.classes} == {"circle", "cross", "square"}  # the last option was chosen, and is taken away
    assert (corrections / table.file_names[0]).read_bytes() == files[1].read_bytes()
    assert [path for path in uploads.rglob("*") if path.is_file()] == [], "uploads are removed at the end"
