import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

import mlic
from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.inference.classifier import Classifier

Change = Callable[[Callable[[dict[str, Any]], Any]], Path]
CLASSES = ("circle", "cross", "square", "triangle")
SCORES = [f"score:{name}" for name in CLASSES]


@pytest.fixture(scope="session")
def classifier(tiny_run: Path) -> Classifier:
    return Classifier.load(tiny_run, device="cpu")


@pytest.fixture(scope="session")
def paths(tiny_images: Path) -> list[Path]:
    """The first ten of the small images."""
    return sorted(tiny_images.iterdir())[:10]


def scores(table: pd.DataFrame) -> np.ndarray:
    return table[SCORES].to_numpy(float)


def test_scores_are_those_of_training(classifier: Classifier, tiny_run: Path, tiny_images: Path):
    test = Predictions.read_parquet(tiny_run / "predictions" / "test.parquet")
    table = classifier.predict([tiny_images / name for name in test.file_names], num_workers=0)
    np.testing.assert_allclose(scores(table), test.scores, rtol=1e-5)
    assert table["file_name"].tolist() == test.file_names.tolist() and set(table["error"]) == {""}
    assert classifier.classes == CLASSES and mlic.Classifier is Classifier
    expected = f"Classifier(network='test_efficientnet', head='DenseHead', classes=4, run={str(tiny_run)!r})"
    assert repr(classifier) == expected


def test_labels_are_the_classes_above_their_thresholds(
    classifier: Classifier, paths: list[Path], tmp_path: Path
):
    own = classifier.saved.thresholds or {}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"common": 0.2, "per_class": dict.fromkeys(CLASSES, 0.2)}))
    for setting, expected in (
        ("calibrated", own["per_class"]),
        ("common", dict.fromkeys(CLASSES, own["common"])),
        (0.3, dict.fromkeys(CLASSES, 0.3)),
        ({"circle": 0.9}, {**own["per_class"], "circle": 0.9}),
        (str(other), dict.fromkeys(CLASSES, 0.2)),
    ):
        table = classifier.predict(paths, thresholds=setting, num_workers=0)
        for text, row in zip(table["labels"], scores(table), strict=True):
            labels = text.split("|") if text else []
            assert set(labels) == {
                name for name, score in zip(CLASSES, row, strict=True) if score > expected[name]
            }
            assert labels == sorted(labels, key=lambda name: -row[CLASSES.index(name)])
    full = scores(table)
    best = classifier.predict(paths, top_k=2, thresholds=0.0, num_workers=0)
    assert {len(text.split("|")) for text in best["labels"]} == {4}
    assert list(best.columns) == ["file_name", "labels", "error", "class_1", "score_1", "class_2", "score_2"]
    assert best["class_1"].tolist() == [CLASSES[column] for column in full.argmax(axis=1)]
    np.testing.assert_array_equal(best["score_2"], np.sort(full, axis=1)[:, -2])
    assert len(classifier.predict(paths[:1], top_k=9, num_workers=0).columns) == 3 + 2 * 4


def test_a_broken_image_is_a_row_with_its_error(classifier: Classifier, paths: list[Path], tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").write_bytes(paths[0].read_bytes())
    (tmp_path / "c.jpg").write_bytes(paths[0].read_bytes()[:300])
    table = classifier.predict(tmp_path, num_workers=0)
    errors = table["error"].tolist()
    assert "0 bytes" in errors[0] and errors[1] == "" and "truncated" in errors[2]
    assert np.isnan(scores(table)).all(axis=1).tolist() == [True, False, True]
    assert table.loc[[0, 2], "labels"].tolist() == ["", ""]
    alone = scores(classifier.predict(paths[:1], num_workers=0))
    np.testing.assert_allclose(scores(table)[1:2], alone, rtol=1e-6)
    assert classifier.predict(tmp_path, top_k=1, num_workers=0)["class_1"].tolist()[0] == ""
    assert classifier.predict([], num_workers=0).empty


def test_images_in_any_form_give_a_row_each(classifier: Classifier, paths: list[Path], tmp_path: Path):
    expected = scores(classifier.predict(paths[:2], num_workers=0))
    picture, file = Image.open(paths[0]), Path(shutil.copy(paths[0], tmp_path / "one.jpg"))
    pixels = np.asarray(picture)
    for given, shown in (
        (file, "one.jpg"), (str(file), "one.jpg"), (tmp_path, "one.jpg"), ([tmp_path], "one.jpg"),
        (picture, str(paths[0])), (pixels, "image 0"),
    ):  # fmt: skip
        table = classifier.predict(given, num_workers=0)
        assert table["file_name"].tolist() == [shown]
        np.testing.assert_allclose(scores(table), expected[:1], rtol=1e-5)
    several = classifier.predict([paths[1], pixels, Image.fromarray(pixels)], num_workers=2)
    assert several["file_name"].tolist() == [paths[1].name, "image 1", "image 2"]
    np.testing.assert_allclose(scores(several), expected[[1, 0, 0]], rtol=1e-5)
    assert len(classifier.predict(paths[0].parent.glob("shapes_0*.jpg"), num_workers=0)) == 10


def test_arrays_and_images_in_memory_are_converted_as_files_are(classifier: Classifier, tmp_path: Path):
    grey = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    picture = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (32, 1)))
    picture.getexif()[0x0112] = 6
    for number, (given, image) in enumerate(((grey, Image.fromarray(grey)), (picture, picture))):
        image.save(file := tmp_path / f"{number}.png", exif=image.getexif())
        in_memory, from_file = scores(classifier.predict([given, file], num_workers=0))
        np.testing.assert_array_equal(in_memory, from_file)
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "0.png").read_bytes()[:90])
    errors = classifier.predict([Image.open(cut), Image.new("RGB", (0, 3))], num_workers=0)["error"].tolist()
    assert errors[0].startswith("truncated or damaged") and errors[1] == "0 x 3 pixels"


def test_what_is_not_an_image_is_refused_by_name(classifier: Classifier):
    others: tuple[Any, ...] = (3, None, b"a.jpg", {"a.jpg": 1}, [3.5], [["a.jpg"]], torch.zeros(3, 8, 8))
    for given in others:
        with pytest.raises(TypeError, match=r"images: \w+ is not an image; expected a path"):
            classifier.predict(given)
    for array in (np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8), np.zeros(8, np.uint8)):
        with pytest.raises(InputError, match=r"images: expected arrays uint8 \(height"):
            classifier.predict(array)


def test_settings_out_of_range_are_refused(classifier: Classifier, tiny_run: Path, paths: list[Path]):
    for wrong in ("best", 1.5, -0.1, True):
        with pytest.raises(InputError, match=rf"thresholds: .*must be .*a number from 0 to 1.*'{wrong}'"):
            classifier.predict(paths, thresholds=wrong)
    for key, value in (("batch_size", 0), ("top_k", 0), ("num_workers", -1)):
        with pytest.raises(InputError, match=rf"{key}={value}: expected .*at least {value + 1}"):
            classifier.predict(paths, **{key: value})
    with pytest.raises(InputError, match=r"device: 'abacus' cannot be used.*Expected auto, cpu"):
        Classifier.load(tiny_run, device="abacus")
    last = Classifier.load(tiny_run / "checkpoints" / "last.ckpt", device="cpu")
    with pytest.raises(InputError, match=r"has no calibrated thresholds.*best\.ckpt.*thresholds=0\.5"):
        last.predict(paths)
    assert len(last.predict(paths[:1], thresholds=0.5, num_workers=0)) == 1


def test_random_weights_are_made_again_from_the_seed_or_refused(tiny_run: Path, changed_checkpoint: Change):
    before = torch.random.get_rng_state()
    first, second = (Classifier.load(tiny_run, device="cpu") for _ in range(2))
    assert first.backbone.weights_digest == second.backbone.weights_digest == first.saved.weights_digest
    assert torch.equal(torch.random.get_rng_state(), before)
    other = changed_checkpoint(lambda content: content["hyper_parameters"]["config"].update(seed=7))
    with pytest.raises(InputError, match=r"trained on features of other weights of test_efficientnet"):
        Classifier.load(other, device="cpu")


def test_weights_from_a_file_are_compared_by_digest(make_run: Callable[..., Path], tmp_path: Path):
    torch.manual_seed(3)
    used, other = tmp_path / "used.pth", tmp_path / "other.pth"
    for file in (used, other):
        torch.save(timm.create_model("test_efficientnet").state_dict(), file)
    run = make_run("model.backbone.pretrained=true", f"model.backbone.weights={used}", "trainer.max_epochs=1")
    assert Classifier.load(run, device="cpu").backbone.name == "test_efficientnet"
    moved = shutil.move(used, tmp_path / "moved.pth")
    with pytest.raises(InputError, match=r"model\.backbone\.weights: '.*used\.pth' does not exist"):
        Classifier.load(run, device="cpu")
    assert Classifier.load(run, device="cpu", weights=moved).classes == CLASSES
    with pytest.raises(InputError, match=r"trained on features of other weights.*model\.backbone\.weights"):
        Classifier.load(run, device="cpu", weights=other)


def test_scores_that_are_no_numbers_are_an_error_of_the_image(changed_checkpoint: Change, paths: list[Path]):
    file = changed_checkpoint(lambda content: content["state_dict"]["head.4.bias"].fill_(float("nan")))
    table = Classifier.load(file, device="cpu").predict(paths[:1], num_workers=0)
    assert table["error"].tolist() == ["its features or scores are infinite or not a number"]


def test_settings_of_earlier_versions_are_left_out_or_refused_by_name(
    changed_checkpoint: Change, classifier: Classifier, paths: list[Path]
):
    def older(content: dict[str, Any]) -> None:
        backbone = content["mlic"]["config"]["model"]["backbone"]
        backbone.update(compile=True, layer_decay=0.5, train_batch_norm=False)
        content["hyper_parameters"]["config"].update(mixup=0.2)

    def trained(content: dict[str, Any]) -> None:
        content["mlic"]["config"]["model"]["backbone"].update(train_batch_norm=True)

    found = Classifier.load(changed_checkpoint(older), device="cpu").predict(paths, num_workers=0)
    pd.testing.assert_frame_equal(found, classifier.predict(paths, num_workers=0))
    with pytest.raises(
        InputError, match=r"with model\.backbone\.train_batch_norm=True by an earlier version"
    ):
        Classifier.load(changed_checkpoint(trained), device="cpu")
