"""Settings and data at the edge of what a run can be asked for: it trains rightly, or says in a sentence why not."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.train import train

MakeConfig = Callable[..., DictConfig]


@pytest.fixture
def with_labels(tiny_config: MakeConfig, tiny_images: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """A function (rows of a CSV file below its header, overrides) -> config of a run on these labels."""

    def make(header: str, rows: list[str], *overrides: str) -> DictConfig:
        file = tmp_path / "labels.csv"
        file.write_text("\n".join([header, *rows]) + "\n")
        return tiny_config(f"data.annotations={file}", f"data.images={tiny_images}", *overrides)

    return make


def test_one_class_and_a_batch_larger_than_the_set(with_labels: Callable[..., DictConfig], tmp_path: Path):
    rows = [f"shapes_{row:02d}.jpg,{row % 2}" for row in range(60)]
    results = train(with_labels("file_name,square", rows, "data.batch_size=10000"))
    assert list(results["test"]["per_class"]) == ["square"]
    assert results["test"]["map"] == results["test"]["per_class"]["square"]["ap"]
    split = [line.split(",")[1] for line in (tmp_path / "run" / "split.csv").read_text().splitlines()[1:]]
    assert [split.count(part) for part in ("train", "val", "test")] == [36, 12, 12]


def test_one_image_and_a_few(with_labels: Callable[..., DictConfig]):
    with pytest.raises(InputError, match=r"1 images.* are too few"):
        train(with_labels("file_name,labels", ["shapes_00.jpg,square"]))
    with pytest.raises(InputError, match=r"1 of 1 classes are too rare|too few"):
        train(with_labels("file_name,labels", ["shapes_00.jpg,square", "shapes_01.jpg,"]))
    alone = with_labels("file_name,labels", ["shapes_00.jpg,square"], "data.split.test=0", "data.split.val=0")
    results = train(alone)
    assert list(results) == ["train"]
    assert results["train"]["per_class"]["square"]["support"] == 1


def test_no_label_anywhere(with_labels: Callable[..., DictConfig], tmp_path: Path):
    rows = [f"shapes_{row:02d}.jpg,0,0" for row in range(60)]
    with pytest.raises(InputError, match=r"2 of 2 classes are too rare to be in each part"):
        train(with_labels("file_name,cat,dog", rows))
    with pytest.raises(InputError, match=r"no classes are left after curation.*requires 1 of 60 images"):
        train(with_labels("file_name,cat,dog", rows, "data.min_images_per_class=1"))
    with pytest.raises(
        InputError, match=r"'val/map'\)` could not find the monitored key.*settings of callbacks"
    ):
        train(with_labels("file_name,cat,dog", rows, "data.split.on_missing=warn"))
    results = train(with_labels("file_name,cat,dog", rows, "data.split.on_missing=warn", "data.split.val=0"))
    assert results["test"]["map"] is None and results["test"]["undefined"]["positives"] == ["cat", "dog"]
    assert not re.search("NaN|Infinity", (tmp_path / "run" / "metrics.json").read_text())


@pytest.mark.parametrize(
    "override",
    ["seed=4294967296", "data.batch_size=0", "data.num_workers=-1", "data.split.test=nan", "features.batch_size=0",
     "+data.class_weights.scale.square=nan", "optimizer.lr=-1", "trainer.max_epochs=0", "model.backbone.image_size=0"],
)  # fmt: skip
def test_settings_out_of_range_are_named(override: str, tiny_config: MakeConfig):
    key = override.lstrip("+").partition("=")[0].removesuffix(".lr").removesuffix(".square")
    with pytest.raises(InputError, match=key):
        train(tiny_config(override))


def test_images_that_cannot_be_used(tiny_config: MakeConfig, tiny_images: Path, tmp_path: Path):
    images = Path(shutil.copytree(tiny_images, tmp_path / "images"))
    cut = (tiny_images / "shapes_05.jpg").read_bytes()[:500]
    bad = {"shapes_02.jpg": b"", "shapes_03.jpg": cut, "shapes_04.jpg": b"<html>404</html>"}
    for name, content in bad.items():
        (images / name).write_bytes(content)
    (images / "shapes_01.jpg").unlink()
    with pytest.raises(InputError, match=r"4 images cannot be used, of \d+:\n") as refusal:
        train(tiny_config(f"data.images={images}"))
    reasons = {"01": "no such file", "02": "empty (0 bytes)", "03": "truncated", "04": "not an image in"}
    for name, reason in reasons.items():
        assert any(name in line and reason in line for line in str(refusal.value).splitlines()), name
    assert "data.on_bad_image=drop" in str(refusal.value)
    assert not list((tmp_path / "store").glob("*/*.safetensors"))
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(tiny_config(f"data.images={images}", "data.on_bad_image=drop"))
    dropped = json.loads((tmp_path / "run" / "dataset.json").read_text())["bad_images"]
    assert {Path(name).name for name in dropped} == {*bad, "shapes_01.jpg"}
    assert not {*bad, "shapes_01.jpg"} & set(pd.read_csv(tmp_path / "run" / "split.csv")["file_name"])
