"""What the tests of whole runs share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlic.evaluation.predictions import Predictions
from mlic.inference import Classifier


@pytest.fixture
def predicts_as_tested(tiny_images: Path) -> Callable[[Path], Classifier]:
    """A function (run folder) -> its classifier, whose scores of the files are those that the run wrote of test."""

    def check(folder: Path) -> Classifier:
        tested = Predictions.read_parquet(folder / "predictions" / "test.parquet")
        classifier = Classifier.load(folder, device="cpu")
        found = classifier.predict([tiny_images / name for name in tested.file_names], num_workers=0)
        scores = found[[f"score:{name}" for name in tested.classes]].to_numpy()
        # a store rounds its features
        np.testing.assert_allclose(scores, tested.scores, atol=5e-4)
        return classifier

    return check
