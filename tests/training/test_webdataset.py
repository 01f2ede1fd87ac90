"""Training, evaluating and predicting on tar shards gives what the same images as files give."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlic.config import compose
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.inference.listing import list_images
from mlic.predict import predict
from mlic.report.thumbnails import PIXELS, ImageFolders, image_folders
from mlic.train import train


@pytest.fixture
def shards(
    tiny_images: Path, tiny_labels: dict[str, tuple[str, ...]], pack: Callable[..., bytes], tmp_path: Path
) -> Path:
    """The 60 small images with their labels, in three shards."""
    folder = tmp_path / "shards"
    folder.mkdir()
    names = list(tiny_labels)
    for number in range(3):
        members: dict[str, bytes | str] = {}
        for name in names[20 * number : 20 * (number + 1)]:
            members[name] = (tiny_images / name).read_bytes()
            members[name.replace(".jpg", ".json")] = json.dumps({"labels": tiny_labels[name]})
        (folder / f"train-{number:02d}.tar").write_bytes(pack(members))
    return folder


@pytest.fixture
def train_on(tiny_settings: tuple[str, ...], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function (output, overrides) -> results of a run on cached features."""
    options = (
        *tiny_settings,
        "trainer.max_epochs=2",
        "features.num_workers=0",
        f"features.dir={tmp_path / 'store'}",
    )
    return lambda output, *overrides: train(compose(*options, *overrides, output=output))


@pytest.mark.slow
def test_a_run_on_shards_is_a_run_on_files(
    shards: Path, train_on: Callable[..., Any], tiny_csv: tuple[Path, Path], tmp_path: Path
):
    tars = ("data=webdataset", f"data.images='{shards}/train-{{00..02}}.tar'")
    files = ("data=csv", f"data.annotations={tiny_csv[0]}", f"data.images={tiny_csv[1]}")
    run = tmp_path / "tars"
    assert train_on(run, *tars) == train_on(tmp_path / "files", *files)
    split = pd.read_csv(run / "split.csv")
    assert split["file_name"].tolist()[0] == "train-00.tar/shapes_00.jpg"
    assert split["sha256"].tolist() == pd.read_csv(tmp_path / "files" / "split.csv")["sha256"].tolist()
    # one set of rows served both
    assert len(list((tmp_path / "store").glob("*/*.safetensors"))) == 1

    # the index of training serves the report
    source = ImageFolders(image_folders(json.loads((run / "dataset.json").read_text())))
    small = source.thumbnail("train-01.tar/shapes_20.jpg")
    assert source.available and small is not None and max(small.size) <= PIXELS
    assert source.thumbnail("train-01.tar/none.jpg") is None

    options = ("device=cpu", "num_workers=0", f"run='{run}'")
    own = compose(*options, "part=test", output=tmp_path / "own", config_name="evaluate")
    assert evaluate(own)["test"] == json.loads((run / "metrics.json").read_text())["test"]
    tars = ("data=webdataset", f"data.images={shards}")
    evaluate(compose(*options, *tars, output=tmp_path / "all", config_name="evaluate"))
    told = json.loads((tmp_path / "all" / "evaluation.json").read_text())
    assert told["images"] == 60 and told["images_in_run"] == {"train": 36, "val": 12, "test": 12}

    both = (f"images='{shards}/*.tar'", f"images={tiny_csv[1]}")
    tables = []
    for place, name in zip(both, ("tars.csv", "files.csv"), strict=True):
        assert predict(compose(*options, place, output=tmp_path / name, config_name="predict")) == {}
        tables.append(pd.read_csv(tmp_path / name))
    assert tables[0]["file_name"][0] == "train-00.tar/shapes_00.jpg"
    pd.testing.assert_frame_equal(tables[0].drop(columns="file_name"), tables[1].drop(columns="file_name"))


@pytest.mark.slow
def test_live_features_read_shards_in_workers(shards: Path, tiny_settings: tuple[str, ...], tmp_path: Path):
    tars = (
        "data=webdataset",
        f"data.images={shards}",
        "features=live",
        "data.num_workers=2",
        "data.decode=exact",
    )
    results = train(compose(*tiny_settings, *tars, "trainer.max_epochs=1", output=tmp_path / "live"))
    assert np.isfinite(results["test"]["loss"])


@pytest.mark.slow
def test_bad_samples_and_images_follow_one_option(
    shards: Path, train_on: Callable[..., Any], pack: Callable[..., bytes], tmp_path: Path
):
    broken = {"0.jpg": b"\xff\xd8\xff", "0.json": '{"labels": ["circle"]}', "1.jpg": b"no labels"}
    (shards / "train-03.tar").write_bytes(pack(broken))
    tars = ("data=webdataset", f"data.images={shards}", "trainer.max_epochs=1")
    with pytest.raises(InputError, match=r"train-03.tar/1\.\*: expected one image"):
        train_on(tmp_path / "error", *tars)
    train_on(tmp_path / "drop", *tars, "data.on_bad_image=drop")
    (bad,) = json.loads((tmp_path / "drop" / "dataset.json").read_text())["bad_images"]
    assert bad.endswith("/train-03.tar/0.jpg")


def test_tars_among_the_images_to_predict(shards: Path, tiny_images: Path, tmp_path: Path):
    paths, names = list_images([str(shards / "train-01.tar"), str(tiny_images / "shapes_00.jpg")])
    assert len(paths) == 21 and names[0] == "train-01.tar/shapes_20.jpg"
    (tmp_path / "cut.tar").write_bytes((shards / "train-01.tar").read_bytes()[:5000])
    assert tarfile.is_tarfile(tmp_path / "cut.tar")
    assert 0 < len(list_images(tmp_path / "cut.tar")[0]) < 20
    with pytest.raises(InputError, match=r"none.tar: the shard cannot be read"):
        list_images(tmp_path / "none.tar")
