"""Addresses that a sender names, in annotations, a run folder or a checkpoint, are never opened."""

import json
import shutil
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import huggingface_hub
import numpy as np
import pytest
import torch

from mlic.compare import compare
from mlic.config import compose, compose_with_choices
from mlic.data import cache_dir
from mlic.data.file_names import leaves_folder
from mlic.data.tar_scan import LabelSource
from mlic.data.tar_shards import index_shards
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier
from mlic.models.weights import load_network
from mlic.predict import predict
from mlic.report import report
from mlic.tars import members
from mlic.tars.index import ShardIndex, Texts
from mlic.tars.listing import list_shards
from mlic.tars.members import find_member
from mlic.train import train
from mlic.training.run import extract
from mlic.tuning.run import run_tuning
from mlic.verify import verify


@dataclass
class Listener:
    """Answers nothing, and counts who knocks."""

    url: str
    connections: list[Any] = field(default_factory=list)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A port of this machine; the test fails if anything was sent there."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(members, "PAUSE_SECONDS", 0)
    server = socket.create_server(("127.0.0.1", 0))
    found = Listener(f"http://127.0.0.1:{server.getsockname()[1]}/a.tar")

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, address = server.accept()
                found.connections.append(address)
                connection.close()

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield found
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    assert found.connections == []


def write_index(folder: Path, url: str, name: str = "a.jpg") -> None:
    """The index of a shard with one image, at an address."""
    place = np.array([512], dtype=np.int64)
    digest = np.zeros((1, 32), dtype=np.uint8)
    ShardIndex(url, {}, Texts.of([name.encode()]), place, place, digest, Texts.of([b'""'])).save(folder)


class Received(NamedTuple):
    """What a sender gave: `name` is that of an image in a shard, whose index lies in the folder of the images."""

    annotations: Path
    images: Path
    name: str


@pytest.fixture(
    params=[("tar-index-x", ""), ("tar-index-0123456789abcdef", "reference::")], ids=["plain", "chain"]
)
def received(
    request: pytest.FixtureRequest, listener: Listener, tiny_csv: tuple[Path, Path], tmp_path: Path
) -> Received:
    """Annotations and images of a sender, and an index that names an address."""
    folder, prefix = request.param
    found = Received(tmp_path / "labels.csv", tmp_path / "received", f"{folder}/s/a.jpg")
    shutil.copytree(tiny_csv[1], found.images)
    write_index((found.images / found.name).parent, prefix + listener.url)
    found.annotations.write_text(tiny_csv[0].read_text() + f"{found.name},square\n")
    return found


@pytest.fixture(scope="module")
def own_run(tiny_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; do not write to it."""
    folder = tmp_path_factory.mktemp("addresses")
    options = ("trainer.max_epochs=1", "features.num_workers=0", f"features.dir={folder / 'store'}")
    train(compose(*tiny_arguments, *options, output=folder / "run"))
    return folder / "run"


@pytest.fixture
def sent_run(own_run: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """A function (change of the checkpoint's config) -> a run folder."""

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        run = shutil.copytree(own_run, tmp_path / "sent")
        file = run / "checkpoints" / "best.ckpt"
        content = torch.load(file, weights_only=True)
        content["mlic"]["config"] = {**content["hyper_parameters"]["config"], **content["mlic"]["config"]}
        change(content["mlic"]["config"])
        torch.save(content, file)
        return run

    return make


def name_image(run: Path, images: Path, name: str) -> None:
    """Let a run folder say that its first test image is that one."""
    dataset = json.loads((run / "dataset.json").read_text())
    (run / "dataset.json").write_text(json.dumps({**dataset, "source": {"images": str(images)}}))
    file = run / "predictions" / "test.parquet"
    test = Predictions.read_parquet(file)
    names = np.array([name, *test.file_names[1:]], dtype=object)
    Predictions(names, test.scores, test.targets, test.classes).write_parquet(file)


@pytest.mark.parametrize("command", ["train", "extract", "tune", "verify", "evaluate"])
def test_an_index_beside_received_images_is_not_used(
    command: str,
    received: Received,
    own_run: Path,
    tiny_overrides: Callable[..., list[str]],
    tmp_path: Path,
):
    places = (f"data.annotations={received.annotations}", f"data.images={received.images}")
    output = tmp_path / "out"
    if command == "verify":
        found = verify(compose("data=csv", *places, output=output, config_name="verify"))
        assert [finding.kind for finding in found.findings] in (["missing_image"], ["annotations"])
        return
    config, choices = compose_with_choices(
        *tiny_overrides(*places, *(("tune.heads=2",) if command == "tune" else ())),
        output=output,
        config_name="tune" if command == "tune" else "train",
    )
    evaluated = ("data=csv", *places, f"run='{own_run}'", "device=cpu", "num_workers=0")
    call = {
        "train": lambda: train(config),
        "extract": lambda: extract(config),
        "tune": lambda: run_tuning(config, choices),
        "evaluate": lambda: evaluate(compose(*evaluated, output=output, config_name="evaluate")),
    }[command]
    with pytest.raises(InputError, match=r"s/a\.jpg(: [Nn]o such file|' leaves the image folder)"):
        call()


def test_predict_uses_no_index_of_a_sender(received: Received, own_run: Path, tmp_path: Path):
    (received.images / received.name).write_bytes(b"no picture")
    options = (f"run='{own_run}'", f"images='{received.images}'", "device=cpu", "num_workers=0")
    bad = predict(compose(*options, output=tmp_path / "p.csv", config_name="predict"))
    assert list(bad) == [received.name]


@pytest.mark.parametrize(("prefix", "part"), [("", "test"), ("reference::", "val"), ("/x::", "train")])
def test_the_address_in_a_checkpoint_is_not_opened(
    prefix: str, part: str, sent_run: Callable[..., Path], listener: Listener, tmp_path: Path
):
    def change(config: dict[str, Any]) -> None:
        config["data"] |= {
            "images": prefix + listener.url,
            "annotations": None,
            "reader": {"_target_": "mlic.data.read_webdataset", "_partial_": True},
        }

    options = (f"run='{sent_run(change)}'", f"part={part}", "device=cpu")
    with pytest.raises(InputError, match=r"a\.tar' is (not opened: an address must|named by a run folder)"):
        evaluate(compose(*options, output=tmp_path / "out", config_name="evaluate"))


def test_a_download_that_a_checkpoint_names_is_not_begun(
    sent_run: Callable[..., Path], listener: Listener, tmp_path: Path
):
    def change(config: dict[str, Any]) -> None:
        reader = {"_target_": "mlic.data.read_coco_val2017", "base_url": listener.url, "_partial_": True}
        config["data"] |= {"images": str(tmp_path / "coco"), "annotations": None, "reader": reader}

    options = (f"run='{sent_run(change)}'", "part=test", "device=cpu")
    with pytest.raises(InputError, match="is not downloaded on the word of a run folder"):
        evaluate(compose(*options, output=tmp_path / "out", config_name="evaluate"))


@pytest.fixture
def own_index(listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The index of remote shards that the user once named; a sender may guess where it lies."""
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    folder = members.index_folder("x")
    write_index(folder / "s", listener.url)
    assert find_member(folder / "s" / "a.jpg") is not None
    return folder


def test_a_checkpoint_may_not_name_the_index_of_the_users_own_shards(
    sent_run: Callable[..., Path], own_index: Path, tmp_path: Path
):
    file = tmp_path / "labels.csv"
    file.write_text("file_name,labels\ns/a.jpg,square\n")
    run = sent_run(lambda config: config["data"].update(images=str(own_index), annotations=str(file)))
    (run / "split.csv").write_text("file_name,split\ns/a.jpg,test\n")
    config = compose(
        f"run='{run}'", "part=test", "device=cpu", output=tmp_path / "out", config_name="evaluate"
    )
    with pytest.raises(InputError, match="is an index of tar shards, and the checkpoint may not name it"):
        evaluate(config)


@pytest.mark.slow
def test_compare_opens_no_address_and_downloads_no_weights(
    sent_run: Callable[..., Path],
    own_index: Path,
    own_run: Path,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    asked: list[Any] = []
    # figures take most of the time, and show no images
    monkeypatch.setattr(report, "draw_run", lambda *_: [])
    monkeypatch.setattr(report, "draw_sections", lambda *_: defaultdict(list))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: asked.append("session"))
    folders = sent_run(lambda config: config["model"]["backbone"].update(pretrained=True)), tmp_path / "sent2"
    shutil.copytree(own_run, folders[1])
    name_image(folders[0], own_index, "s/a.jpg")
    name = f"{own_index.name}/s/a.jpg"
    write_index((tmp_path / name).parent, f"reference::{listener.url}")
    name_image(folders[1], tmp_path, name)
    options = (f"runs=['{folders[0]}','{folders[1]}']", "resamples=2", "activation_maps=true")
    page = compare(compose(*options, output=tmp_path / "report", config_name="compare")).read_text()
    assert "no activation maps: no weights found for &#39;test_efficientnet&#39;: they are not on" in page
    assert not asked
    with pytest.raises(InputError, match="the hub cannot be reached"):
        load_network("test_efficientnet.r160_in1k")
    assert asked


def test_only_the_cache_has_members(listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = tmp_path / "disk" / "cache"
    real.mkdir(parents=True)
    (tmp_path / "cache").symlink_to(real)
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    inside = members.index_folder("root")
    write_index(inside / "s", listener.url)
    write_index(inside / "deep" / "s", listener.url)
    for path in (inside / "s/a.jpg", inside / "deep/s/a.jpg", inside.resolve() / "s/a.jpg"):
        assert find_member(path) is not None and members.is_member(path)
    other = tmp_path / "received" / inside.name
    write_index(other / "s", listener.url)
    (tmp_path / "received" / "link").symlink_to(cache_dir())
    climbing = f"../../cache/webdataset/{inside.name}/s/a.jpg"
    for path in (
        other / "s/a.jpg",
        tmp_path / "received" / "link" / "webdataset" / inside.name / "s/a.jpg",
        f"{tmp_path}/received/x/{climbing}",
        f"{inside}/../{inside.name}/s/a.jpg",
        f"{cache_dir()}/webdataset/../{other}/s/a.jpg",
        f"{cache_dir()}/webdataset/tar-index-x/s/a.jpg",
        f"{cache_dir()}2/webdataset/{inside.name}/s/a.jpg",
    ):
        assert find_member(path) is None and not members.is_member(path), path
    assert leaves_folder(climbing)
    # the folder of the images may be one above the cache
    assert leaves_folder(f"cache/webdataset/{inside.name}/s/a.jpg")


@pytest.mark.parametrize(
    "address",
    [
        "reference::{url}", "filecache::{url}", "{url}::{url}", "/x::{url}", "x::y", "reference://{url}",
        "github://a:b@main/c.tar", "HTTP{url}", "smb://a/b.tar",
    ],
)  # fmt: skip
def test_few_protocols_are_opened_also_out_of_an_index(
    address: str, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    url = address.format(url=listener.url)
    with pytest.raises(
        InputError, match=r"' is not opened: an address must begin with one of file://, http://"
    ):
        list_shards(url)
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path))
    folder = members.index_folder("x")
    write_index(folder / "s", url if "://" in url else f"{url}://")
    member = find_member(folder / "s" / "a.jpg")
    assert member is not None
    with pytest.raises(InputError, match="' is not opened: an address must begin"):
        members.read_member(member)


def test_a_shard_name_that_leaves_the_index_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "mlic.tars.listing._find", lambda entry: (["http://h/d/"], {"http://h/d/../../x.tar": {"size": "1"}})
    )
    with pytest.raises(InputError, match=r"'\.\./\.\./x\.tar' leads out of its folder"):
        index_shards("http://h/d/", LabelSource("auto", "labels"))


@pytest.mark.parametrize(
    "name", ["hf-hub:someone/evil", "hf_hub:someone/evil", "local-dir:/received", "test_efficientnet.hf-hub:a/b",
             "https://example.org/vgg16", "test_efficientnet.none"],
)  # fmt: skip
def test_networks_of_a_senders_repository_are_not_fetched(
    name: str, sent_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"fetched: {arguments}")

    for function in ("hf_hub_download", "get_session", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, function, refuse)
    run = sent_run(lambda config: config["model"]["backbone"].update(name=name, pretrained=True))
    with pytest.raises(InputError):
        Classifier.load(run, device="cpu")
