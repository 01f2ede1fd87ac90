"""Labels that are probably wrong."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlic.config import compose
from mlic.data import read_csv
from mlic.errors import InputError
from mlic.verification import suspects as suspects_module
from mlic.verification.suspects import rank_suspects
from mlic.verify import verify

CHANCE_FACTOR = 20


def test_labels_are_ranked_by_the_score_of_what_is_given(make_table):
    pytest.importorskip("cleanlab")
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.uint8)
    scores = np.array([[0.9, 0.8], [0.1, 0.7], [0.05, 0.9], [0.2, 0.3]])
    ranking = rank_suspects(make_table(labels, ["cat", "dog"]), scores, most=5)
    columns = ["rank", "file_name", "class", "given", "score", "quality"]
    rows = [tuple(row) for row in ranking.labels[columns].itertuples(index=False)]
    expected = [
        (1, "00002.jpg", "cat", 1, 0.05, 0.05), (2, "00000.jpg", "dog", 0, 0.8, 0.2),
        (3, "00001.jpg", "dog", 1, 0.7, 0.7), (4, "00003.jpg", "dog", 0, 0.3, 0.7),
        (5, "00003.jpg", "cat", 0, 0.2, 0.8),
    ]  # fmt: skip
    assert [row[:4] for row in rows] == [row[:4] for row in expected]
    np.testing.assert_allclose([row[4:] for row in rows], [row[4:] for row in expected])
    assert ranking.images["file_name"].tolist() == ["00002.jpg", "00000.jpg", "00003.jpg", "00001.jpg"]
    assert ranking.images["labels"].tolist() == ["cat|dog", "cat", "", "dog"]
    assert ranking.images["rank"].tolist() == [1, 2, 3, 4]
    assert ranking.labels["image_rank"].tolist() == [1, 2, 4, 3, 3]
    wrong = ranking.labels["likely_wrong"].tolist()
    assert wrong[0] == 1 and wrong[3] == 0
    assert ranking.images["likely_wrong"].tolist()[0] == "cat"
    assert 1 <= ranking.wrong_images <= ranking.wrong_labels <= 3


def test_without_cleanlab_the_extra_is_named(data_set, verify_set, tmp_path, monkeypatch):
    monkeypatch.setattr(suspects_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"labels=suspect requires cleanlab.*pip install 'mlic\[verify\]'"):
        verify_set(data_set, "labels=suspect")
    assert not (tmp_path / "out" / "problems.csv").exists()


def test_settings_that_cannot_be_used(data_set, verify_set, tmp_path):
    pytest.importorskip("cleanlab")
    tiny = (
        "labels=suspect", "model=timm", "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false",
        "trainer=cpu", f"features.dir={tmp_path}", "features.num_workers=0",
    )  # fmt: skip
    for override, message in (
        ("suspects.strength=0", "suspects.strength=0: expected a number of at least 1e-09"),
        ("suspects.folds=1", "suspects.folds=1: expected a number of at least 2"),
        ("suspects.folds=20", "no class has at least suspects.folds=20 images"),
    ):
        with pytest.raises(InputError, match=message):
            verify_set(data_set, *tiny, override)


def test_rare_classes_are_left_out_by_name(make_table, caplog: pytest.LogCaptureFixture):
    labels = np.zeros((10, 3), dtype=np.uint8)
    labels[:5, 0] = labels[:4, 1] = labels[:6, 2] = 1
    with caplog.at_level(logging.WARNING):
        kept = suspects_module._learnable(make_table(labels, ["a", "b", "c"]), 5)
    assert kept.classes == ("a",)
    assert "2 of 3 classes are left out" in caplog.text and caplog.text.strip().endswith("b, c")


def flip(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N, C) bool: `share` of the labels, to be taken away, and as many that are to be added."""
    random = np.random.default_rng(seed)
    wrong = np.zeros(labels.size, dtype=bool)
    for value in (1, 0):
        chosen = random.choice(np.flatnonzero(labels == value), round(share * labels.sum()), replace=False)
        wrong[chosen] = True
    return wrong.reshape(labels.shape)


@pytest.mark.slow
def test_flipped_labels_of_photographs_are_found(coco_data: Path, tmp_path: Path):
    pytest.importorskip("cleanlab")
    table = read_csv(coco_data / "labels.csv", coco_data / "images").select(np.arange(300))
    table = table.select_classes(table.counts() >= 8)
    wrong = flip(table.labels, 0.05, seed=0)
    given = table.labels ^ wrong
    names = ["|".join(np.array(table.classes)[row.astype(bool)]) for row in given]
    pd.DataFrame({"file_name": table.file_names, "labels": names}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    places = [f"data.annotations={tmp_path / 'labels.csv'}", f"data.images={table.image_dir}"]
    options = ["labels=suspect", "check=quick", f"features.dir={tmp_path / 'store'}", "trainer=cpu"]
    verify(compose("data=csv", *places, *options, output=tmp_path / "out", config_name="verify"))
    suspects = pd.read_csv(tmp_path / "out" / "suspects.csv")
    rows = pd.Index(table.file_names).get_indexer(suspects["file_name"].tolist())
    columns = pd.Index(table.classes).get_indexer(suspects["class"].tolist())
    assert suspects["given"].tolist() == given[rows, columns].tolist()
    assert (np.diff(suspects["quality"]) >= 0).all()
    found = wrong[rows, columns][: wrong.sum()].mean()
    assert found > CHANCE_FACTOR * wrong.mean(), (found, wrong.mean())
    images = pd.read_csv(tmp_path / "out" / "suspect_images.csv")
    assert sorted(images["file_name"]) == sorted(table.file_names)
    worst = pd.Index(table.file_names).get_indexer(images["file_name"].tolist()[:30])
    assert wrong[worst].any(axis=1).mean() > 1.5 * wrong.any(axis=1).mean()
