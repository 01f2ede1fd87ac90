"""Features in 8-bit integers: a run on them, and the measurement of what they cost."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier
from mlic.train import train
from mlic.training.int8_check import check_int8

RIDGE = ("head=ridge", "data.split.val=0")


@pytest.mark.slow
def test_int8_has_its_own_store_and_predict_computes_the_same(
    tiny_config: Callable[..., DictConfig], tiny_images: Path, tmp_path: Path
):
    store = f"features.dir={tmp_path / 'store'}"
    text = check_int8(tiny_config(*RIDGE, store))
    assert text.startswith("test mAP of head=ridge: int8 ") and text.endswith(" on 12 images")
    train(tiny_config(*RIDGE, store, "model.backbone.precision=int8", output=tmp_path / "run"))
    identities = [json.loads(file.read_text())["identity"] for file in tmp_path.glob("store/*/store.json")]
    assert sorted(identity["precision"] for identity in identities) == ["float32", "int8"]
    scored = Predictions.read_parquet(tmp_path / "run" / "predictions" / "test.parquet")
    classifier = Classifier.load(tmp_path / "run", device="cpu")
    table = classifier.predict([tiny_images / name for name in scored.file_names], num_workers=0)
    scores = table[[f"score:{name}" for name in scored.classes]].to_numpy()
    np.testing.assert_allclose(scores, scored.scores, atol=5e-3)
    with pytest.raises(InputError, match="trained on features in int8, not in float32"):
        Classifier.load(tmp_path / "run", device="cpu", precision="float32")


def test_a_check_without_test_images_is_refused(tiny_config: Callable[..., DictConfig], tmp_path: Path):
    config = tiny_config(f"features.dir={tmp_path / 'store'}", "data.split.test=0")
    with pytest.raises(InputError, match=r"data\.split\.test"):
        check_int8(config)
    assert not (tmp_path / "store").exists()
