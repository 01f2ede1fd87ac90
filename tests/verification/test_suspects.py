"""Labels worth a look."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from mlic.config import compose
from mlic.data import read_csv
from mlic.errors import InputError
from mlic.verification import suspects
from mlic.verification.suspects import cross_validated_scores, plant_errors, rank_suspects
from mlic.verify import verify


def test_labels_and_images_are_ranked(make_table):
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, -1]])
    scores = np.array([[0.9, 0.8], [0.05, 0.7], [0.05, 0.95], [0.2, 0.3]])
    ranking = rank_suspects(make_table(labels, ["cat", "dog"]), scores, most=5)
    columns = ["rank", "file_name", "class", "given", "score", "quality"]
    rows = [tuple(row) for row in ranking.labels[columns].itertuples(index=False)]
    expected = [
        (1, "00002.jpg", "cat", 1, 0.05, 0.05), (2, "00000.jpg", "dog", 0, 0.8, 0.2),
        (3, "00001.jpg", "dog", 1, 0.7, 0.7), (4, "00003.jpg", "cat", 0, 0.2, 0.8),
        (5, "00000.jpg", "cat", 1, 0.9, 0.9),
    ]  # fmt: skip
    assert [row[:4] for row in rows] == [row[:4] for row in expected]
    np.testing.assert_allclose([row[4:] for row in rows], [row[4:] for row in expected])
    # pointwise mutual information with frequencies 1/2 of cat and 2/3 of dog; the unknown label takes no part
    fits = {"00002.jpg": 0.1 * 1.425, "00000.jpg": 1.8 * 0.6, "00003.jpg": 1.6, "00001.jpg": 1.9 * 1.05}
    assert ranking.images["file_name"].tolist() == list(fits)
    np.testing.assert_allclose(ranking.images["fit"], np.log(list(fits.values())))
    assert ranking.images["labels"].tolist() == ["cat|dog", "cat", "", "dog"]
    assert ranking.images["unexpected"].tolist() == ["cat", "", "", ""]
    assert ranking.images["expected"].tolist() == ["", "dog", "", ""]


def test_no_row_is_scored_by_a_model_that_saw_it_and_unknown_labels_take_no_part():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 5)).astype(np.float32)
    labels = (features[:, :3] + random.normal(size=(60, 3)) > 0).astype(np.int8)
    labels[random.random((60, 3)) < 0.2] = -1
    folds = np.array_split(np.arange(60), 3)
    scores = cross_validated_scores(features, labels, folds, penalty=2.0)
    rooted = np.sign(features) * np.sqrt(np.abs(features))
    rooted = (rooted - rooted.mean(axis=0)) / rooted.std(axis=0)
    for column in range(3):
        for fold in folds:
            rows = np.setdiff1d(np.flatnonzero(labels[:, column] >= 0), fold)
            expected = Ridge(2.0).fit(rooted[rows], labels[rows, column]).predict(rooted[fold])
            # the calibration is monotonic
            np.testing.assert_array_equal(np.argsort(scores[fold, column]), np.argsort(expected))


def test_rare_classes_are_left_out_by_name(make_table, caplog: pytest.LogCaptureFixture):
    labels = np.zeros((10, 3), dtype=np.int8)
    labels[:5, 0] = labels[:4, 1] = labels[:6, 2] = 1
    assert suspects._learnable(make_table(labels, ["a", "b", "c"]), 5).classes == ("a",)
    assert caplog.text.strip().endswith("b, c")
    with pytest.raises(InputError, match="no class has at least"):
        suspects._learnable(make_table(labels), 7)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number", "found"), [("exchanged", 20, 12), ("flipped", 40, 12)])
def test_planted_errors_of_photographs_are_found(coco_data: Path, tmp_path: Path, kind, number, found):
    table = read_csv(coco_data / "labels.csv", coco_data / "images").select(np.arange(400))
    table = table.select_classes(table.counts() >= 8)
    given = plant_errors(table.labels, kind, number, np.random.default_rng(0))
    wrong = given != table.labels
    names = ["|".join(np.array(table.classes)[row.astype(bool)]) for row in given]
    pd.DataFrame({"file_name": table.file_names, "labels": names}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    places = [f"data.annotations={tmp_path / 'labels.csv'}", f"data.images={table.image_dir}"]
    options = ["labels=suspect", "check=quick", "trainer=cpu", "data.split.on_missing=warn"]
    verify(compose("data=csv", *places, *options, output=tmp_path / "out", config_name="verify"))
    ranked = pd.read_csv(tmp_path / "out" / ("suspect_images.csv" if kind == "exchanged" else "suspects.csv"))
    rows = pd.Index(table.file_names).get_indexer(ranked["file_name"].tolist()[: 2 * number])
    if kind == "exchanged":
        hits = wrong[rows].any(axis=1)
    else:
        hits = wrong[rows, pd.Index(table.classes).get_indexer(ranked["class"].tolist()[: 2 * number])]
    assert hits.sum() >= found, hits.sum()
    assert (tmp_path / "out" / "index.html").read_text().count("data:image/webp") >= 48
