"""Groups of near duplicates in a run, and the warning about test images with one in train."""

import csv
import json
import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlic.config import compose
from mlic.errors import InputError
from mlic.train import train


@pytest.fixture(scope="module")
def copied_set(tmp_path_factory, tiny_labels, tiny_arguments):
    """Command line for 40 images of noise, each in three files of different JPEG quality."""
    folder = tmp_path_factory.mktemp("copied")
    random = np.random.default_rng(0)
    rows = [("file_name", "labels")]
    for name, labels in list(tiny_labels.items())[:40]:
        coarse = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        for quality in (80, 88, 95):
            copy = f"{name[:-4]}_{quality}.jpg"
            image.save(folder / copy, quality=quality)
            rows.append((copy, "|".join(labels)))
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return (
        *tiny_arguments, f"data.annotations={folder / 'labels.csv'}", f"data.images={folder}", "trainer.max_epochs=1",
        "features.num_workers=0", f"features.dir={folder / 'store'}",
    )  # fmt: skip


def test_near_duplicates_stay_in_one_part_and_the_run_resumes(copied_set, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("mlic.training.near_duplicates.MOST_COMPARED", 15)
    train(compose(*copied_set, output=tmp_path / "plain"))
    warned = json.loads((tmp_path / "plain" / "dataset.json").read_text())["near_duplicates"]
    assert 10 < warned["test_images_in_train"] <= warned["compared"] <= 15
    assert "data.split.groups.by=duplicates" in caplog.text
    grouped = (*copied_set, "data.split.groups.by=duplicates")
    results = train(compose(*grouped, output=tmp_path / "grouped"))
    split = pd.read_csv(tmp_path / "grouped" / "split.csv")
    photographs = split.groupby(split["file_name"].str.rpartition("_")[0])
    assert set(photographs["split"].nunique()) == {1}
    written = json.loads((tmp_path / "grouped" / "dataset.json").read_text())
    assert written["near_duplicates"]["test_images_in_train"] == 0
    # the split is checked with the recorded groups, without features
    assert train(compose(*grouped, "resume=auto", output=tmp_path / "grouped")) == results


def test_live_features_and_thresholds_out_of_range_are_refused(copied_set, tmp_path):
    with pytest.raises(InputError, match=r"features=cached.*data\.split\.keep"):
        train(
            compose(
                *copied_set[:-3], "features=live", "data.split.groups.by=duplicates", output=tmp_path / "a"
            )
        )
    with pytest.raises(InputError, match="threshold"):
        train(compose(*copied_set, "data.split.groups.threshold=1.5", output=tmp_path / "b"))
