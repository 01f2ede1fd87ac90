"""Confusions, single errors, pairs of labels and the choice of images, on cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from mlic.evaluation.errors import co_occurrence, confusions, gallery_rows, image_losses, single_errors
from mlic.evaluation.predictions import Predictions

CLASSES = ("cat", "dog", "pön")


@pytest.fixture
def predictions() -> Predictions:
    scores = [
        [0.1, 0.9, 0.7],  # a cat taken for a dog, and pön
        [0.2, 0.8, 0.1],  # a cat taken for a dog
        [0.9, 0.1, 0.6],  # a cat, and pön falsely
        [0.3, 0.9, 0.7],  # a dog, and pön falsely
        [0.1, 0.1, 0.2],  # nothing, rightly
    ]
    targets = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    file_names = np.array([f"{name}.jpg" for name in "vwxyz"])
    return Predictions(file_names, np.array(scores), np.array(targets), CLASSES)


def test_confusions_by_hand(predictions: Predictions) -> None:
    table = confusions(predictions)
    # the cat is missed twice: dog is falsely there twice (of 2 in all 5 images), pön once, under its 3 of 5
    assert table.to_dict("records") == [
        {"class": "cat", "confused_with": "dog", "images": 2, "share": 1.0, "usual_share": pytest.approx(0.4)}
    ]
    assert confusions(predictions, np.array([0.05, 0.5, 0.5])).empty
    assert confusions(predictions, top=0).columns.tolist() == table.columns.tolist()


def test_single_errors_by_confidence(predictions: Predictions) -> None:
    table = single_errors(predictions)
    assert (table["file_name"].str[0] + " " + table["class"] + " " + table["kind"]).tolist() == [
        "v cat false negative", "v dog false positive", "w cat false negative", "w dog false positive",
        "v pön false positive", "y pön false positive", "x pön false positive",
    ]  # fmt: skip
    assert table["confidence"].tolist() == pytest.approx([0.9, 0.9, 0.8, 0.8, 0.7, 0.7, 0.6])
    assert predictions.file_names[table["row"]].tolist() == table["file_name"].tolist()


def test_co_occurrence_by_hand() -> None:
    targets = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]], dtype=np.uint8)
    table = co_occurrence(targets, CLASSES)
    assert table.values.tolist() == [
        ["cat", "dog", 2, pytest.approx(2 * 4 / (3 * 2))],
        ["cat", "pön", 1, pytest.approx(1 * 4 / (3 * 2))],
        ["dog", "pön", 1, pytest.approx(1 * 4 / (2 * 2))],
    ]
    assert co_occurrence(np.eye(3), CLASSES).empty
    assert co_occurrence(np.zeros((2, 1)), ["a"]).empty


def test_image_losses_are_the_binary_cross_entropy(predictions: Predictions) -> None:
    expected = [
        log_loss(target, score.astype(float), labels=[0, 1])
        for score, target in zip(predictions.scores, predictions.targets, strict=True)
    ]
    assert image_losses(predictions).tolist() == pytest.approx(expected, abs=1e-6)


def test_gallery_rule(predictions: Predictions) -> None:
    rows = gallery_rows(predictions, count=2)
    assert {name: predictions.file_names[index].tolist() for name, index in rows.items()} == {
        "lowest_loss": ["z.jpg", "x.jpg"],
        "highest_loss": ["v.jpg", "w.jpg"],
        "confident_errors": ["v.jpg", "w.jpg"],
    }
    assert len(gallery_rows(predictions, count=50)["lowest_loss"]) == 5
