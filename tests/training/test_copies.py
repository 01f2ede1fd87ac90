"""Copies of an image, as they come from a folder that was merged twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from mlic.config import compose
from mlic.train import train
from mlic.verify import verify


@pytest.mark.parametrize("mode", ["cached", "live"])
def test_copies_stay_in_one_part_and_other_labels_of_them_are_told(
    mode: str,
    tiny_config: Callable[..., DictConfig],
    tiny_csv: tuple[Path, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO")
    annotations, images = tmp_path / "copies.csv", tmp_path / "copies"
    shutil.copytree(tiny_csv[1], images)
    rows = tiny_csv[0].read_text(encoding="utf-8").splitlines()
    name, _, labels = rows[1].partition(",")
    for number in range(30):
        shutil.copy(images / name, images / f"copy_{number:02d}.jpg")
        rows.append(f"copy_{number:02d}.jpg,{labels if number else 'cross'}")
    annotations.write_text("\n".join(rows) + "\n", encoding="utf-8")
    places = (f"data.annotations={annotations}", f"data.images={images}", "data.split.val=0.2")
    config = tiny_config(*places, f"features={mode}", "trainer.max_epochs=1", "resume=auto")
    results = train(config)
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    assert len(split[["sha256", "split"]].drop_duplicates()) == 60
    parts = split["split"].value_counts().to_dict()
    assert sum(parts.values()) == 90 and parts["test"] == pytest.approx(18, abs=3)
    assert "30 images are copies of others and stay in the same part of the split" in caplog.text
    # the first of the copies by name has other labels than the rest of them and the original
    assert (
        "30 images are copies of other images but have different labels, such as 'copy_01.jpg' and 'copy_00.jpg'"
        in caplog.text
    )
    assert train(config) == results and "already finished, skipped" in caplog.text
    if mode == "cached":
        checked = verify(compose("data=csv", *places, config_name="verify", output=tmp_path / "verified"))
        assert checked.classes[["train", "val", "test"]].sum().to_dict() == {
            part: sum(counts.values()) for part, counts in counts_of(tmp_path / "run").items()
        }


def counts_of(folder: Path) -> dict[str, dict[str, int]]:
    counts = json.loads((folder / "dataset.json").read_text())["counts"]
    return {part: counts[part] for part in ("train", "val", "test")}
