"""Addresses that a sender names, in annotations, a run folder or a checkpoint, are never opened."""

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

from mlic.compare import compare
from mlic.config import compose
from mlic.data import tar_images
from mlic.data.readers.tar_shards import list_shards
from mlic.data.tar_images import TarImage, read_tar_image
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier
from mlic.models.weights import load_network

SentRun = Callable[[Callable[[dict[str, Any]], Any]], Path]


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address on this machine; the test fails if anybody connected to it."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(tar_images, "PAUSE_SECONDS", 0)
    server = socket.create_server(("127.0.0.1", 0))
    connections: list[Any] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, address = server.accept()
                connections.append(address)
                connection.close()

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/a.tar"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    assert connections == []


@pytest.fixture
def sent_run(tiny_run: Path, tmp_path: Path) -> SentRun:
    """A function (change of the checkpoint's config) -> a run folder."""

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        run = shutil.copytree(tiny_run, tmp_path / "sent")
        file = run / "checkpoints" / "best.ckpt"
        content = torch.load(file, weights_only=True)
        content["mlic"]["config"] = {**content["hyper_parameters"]["config"], **content["mlic"]["config"]}
        change(content["mlic"]["config"])
        torch.save(content, file)
        return run

    return make


def name_image(run: Path, images: str | Path, name: str) -> None:
    """Let a run folder say that its first test image is that one."""
    dataset = json.loads((run / "dataset.json").read_text())
    (run / "dataset.json").write_text(json.dumps({**dataset, "source": {"images": str(images)}}))
    file = run / "predictions" / "test.parquet"
    test = Predictions.read_parquet(file)
    names = np.array([name, *test.file_names[1:]], dtype=object)
    Predictions(names, test.scores, test.targets, test.classes).write_parquet(file)


@pytest.mark.parametrize(
    ("images", "reader", "message"),
    [
        ("{url}", {"_target_": "mlic.data.read_webdataset"}, r"a\.tar' is not opened, because"),
        ("/x::{url}", {"_target_": "mlic.data.read_webdataset"}, r"a\.tar' is not opened: an address must"),
        ("coco", {"_target_": "mlic.data.read_coco_val2017", "base_url": "{url}"}, "is not downloaded, because"),
    ],
)  # fmt: skip
def test_the_address_in_a_checkpoint_is_not_opened(
    images: str, reader: dict[str, str], message: str, sent_run: SentRun, listener: str, tmp_path: Path
):
    changed = {"images": images, "annotations": None, "reader": {**reader, "_partial_": True}}
    changed = json.loads(json.dumps(changed).replace("{url}", listener))
    run = sent_run(lambda config: config["data"].update(changed))
    options = (f"run='{run}'", "part=test", "device=cpu")
    with pytest.raises(InputError, match=message):
        evaluate(compose(*options, output=tmp_path / "out", config_name="evaluate"))


@pytest.mark.usefixtures("without_figures")
def test_compare_opens_no_address_and_downloads_no_weights(
    sent_run: SentRun, tiny_run: Path, listener: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked: list[Any] = []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: asked.append("session"))
    folders = sent_run(lambda config: config["model"]["backbone"].update(pretrained=True)), tmp_path / "sent2"
    shutil.copytree(tiny_run, folders[1])
    name_image(folders[0], listener, "a.jpg")
    name_image(folders[1], tmp_path, listener)
    options = (f"runs=['{folders[0]}','{folders[1]}']", "resamples=2", "activation_maps=true")
    page = compare(compose(*options, output=tmp_path / "report", config_name="compare")).read_text()
    assert "no activation maps: no weights found for &#39;test_efficientnet&#39;: they are not on" in page
    assert not asked
    with pytest.raises(InputError, match="the download failed"):
        load_network("test_efficientnet.r160_in1k")
    assert asked


@pytest.mark.parametrize("start", ["reference::", "/x::", "reference://", "github://a:b@main/c", "HTTP"])
def test_few_protocols_are_opened(start: str, listener: str):
    for read in (list_shards, lambda url: read_tar_image(TarImage(url, "a.jpg", 512, 512, ""))):
        with pytest.raises(InputError, match="' is not opened: an address must begin with one of file://"):
            read(start + listener)


def test_a_shard_name_that_leaves_the_folder_is_refused(monkeypatch: pytest.MonkeyPatch):
    addresses = ["http://h/d/a.tar", "http://h/d/../../x.tar"]
    monkeypatch.setattr("mlic.data.readers.tar_shards._find", lambda _: addresses)
    with pytest.raises(InputError, match="leads out of its folder"):
        list_shards("http://h/d/")


@pytest.mark.parametrize(
    "name", ["hf-hub:a/evil", "local-dir:/received", "test_efficientnet.hf-hub:a/b", "https://a/b"]
)
def test_networks_of_a_senders_repository_are_not_fetched(name: str, sent_run: SentRun, monkeypatch: Any):
    fetched: list[Any] = []
    for function in ("hf_hub_download", "get_session", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, function, lambda *arguments, **_: fetched.append(arguments))
    run = sent_run(lambda config: config["model"]["backbone"].update(name=name, pretrained=True))
    with pytest.raises(InputError):
        Classifier.load(run, device="cpu")
    assert not fetched
