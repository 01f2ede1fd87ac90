"""A data set of which images cannot be used: all are named at once, nothing is stored, and they can be left out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.train import train

MakeConfig = Callable[..., DictConfig]


def test_images_that_cannot_be_used(tiny_config: MakeConfig, tiny_images: Path, tmp_path: Path):
    images = Path(shutil.copytree(tiny_images, tmp_path / "images"))
    whole = (tiny_images / "shapes_05.jpg").read_bytes()
    (images / "shapes_01.jpg").unlink()
    (images / "shapes_02.jpg").write_bytes(b"")
    (images / "shapes_03.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "shapes_04.jpg").write_bytes(b"<html>404</html>")
    (images / "shapes_06.jpg").unlink()
    (images / "shapes_06.jpg").mkdir()
    (images / "shapes_07.jpg").write_bytes(b"P6 60000 60000 255\n")
    with pytest.raises(InputError, match=r"6 images cannot be used:\n") as refusal:
        train(tiny_config(f"data.images={images}"))
    for name, reason in (
        ("01", "no such file"), ("02", "empty (0 bytes)"), ("03", "truncated"), ("04", "not an image in"),
        ("06", "not a regular file"), ("07", "more pixels than the limit"),
    ):  # fmt: skip
        assert any(name in line and reason in line for line in str(refusal.value).splitlines()), name
    assert "data.on_bad_image=drop" in str(refusal.value)
    assert not list((tmp_path / "store").glob("*/*.safetensors"))
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(tiny_config(f"data.images={images}", "data.on_bad_image=drop"))
    bad = {f"shapes_{number:02d}.jpg" for number in (1, 2, 3, 4, 6, 7)}
    dropped = json.loads((tmp_path / "run" / "dataset.json").read_text())["bad_images"]
    assert {Path(name).name for name in dropped} == bad
    assert not bad & set(pd.read_csv(tmp_path / "run" / "split.csv")["file_name"])
