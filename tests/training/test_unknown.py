"""Runs on labels of which some are unknown: a CSV file of 1, 0 and -1 with the part of each image."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mlic.compare import compare
from mlic.config import compose
from mlic.data import LabelTable
from mlic.data.datamodule import MultiLabelDataModule
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.evaluation.predictions import Predictions
from mlic.features.dataset import FeatureDataset, MemoryRows
from mlic.models import MultiLabelClassifier, WeightedBCE
from mlic.models.losses import check_loss
from mlic.tune import tune
from mlic.verification.findings import find_duplicates

Labels = dict[str, tuple[str, ...]]
CLASSES = ("circle", "cross", "square", "triangle")
SETTINGS = ("data.reader.unknown={-1: ignore}", "data.split.column=part", "data.split.on_missing=warn")


@pytest.fixture(scope="module")
def annotations(tiny_labels: Labels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of the labels are unknown, and all of class cross in test."""
    random = np.random.default_rng(0)
    rows = []
    for number, (name, labels) in enumerate(tiny_labels.items()):
        part = ("train", "train", "train", "val", "test")[number % 7 % 5]
        given = {shape: -1 if random.random() < 0.25 else int(shape in labels) for shape in CLASSES}
        if part == "test":
            given["cross"] = -1
        rows.append({"file_name": name, "part": part, **given})
    file = tmp_path_factory.mktemp("unknown") / "labels.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def run(annotations: Path, make_run: Callable[..., Path]) -> Path:
    return make_run(f"data.annotations={annotations}", *SETTINGS)


def test_a_class_that_nobody_knows_in_test_is_named_and_no_figure_is_nan(run: Path):
    test = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)["test"]
    assert test["undefined"]["positives"] == ["cross"]
    assert test["per_class"]["cross"] == {
        **dict.fromkeys(("ap", "auc", "precision", "recall", "f1")), "support": 0, "known": 0
    }  # fmt: skip
    assert test["map"] == pytest.approx(
        np.mean([row["ap"] for name, row in test["per_class"].items() if name != "cross"])
    )
    assert not pd.read_csv(run / "epochs.csv").isna().any(axis=None)


def test_files_of_the_run_keep_what_is_unknown(run: Path, annotations: Path):
    given = pd.read_csv(annotations).set_index("file_name")
    found = Predictions.read_parquet(run / "predictions" / "test.parquet")
    expected = given.loc[found.file_names, list(found.classes)].to_numpy()
    np.testing.assert_array_equal(found.targets, expected)
    dataset = json.loads((run / "dataset.json").read_text())
    training = given[given["part"] == "train"]
    for name in CLASSES:
        assert dataset["counts"]["train"][name] == (training[name] == 1).sum()
        assert dataset["known"]["train"][name] == (training[name] >= 0).sum()
        weight = 1 / np.sqrt((training[name] == 1).sum())
        assert dataset["class_weights"][name] == pytest.approx(weight)


def test_evaluation_and_report_leave_unknown_labels_out(run: Path, tmp_path: Path):
    options = ("part=test", f"run='{run}'", "num_workers=0", "device=cpu")
    metrics = evaluate(compose(*options, output=tmp_path / "out", config_name="evaluate"))
    assert metrics["test"] == json.loads((run / "metrics.json").read_text())["test"]
    compare(compose(f"runs='{run}'", output=tmp_path / "page", config_name="compare"))
    data = pd.read_csv(tmp_path / "page" / "tables" / "data.csv")
    test = Predictions.read_parquet(run / "predictions" / "test.parquet")
    share = float(np.mean(test.targets < 0))
    assert share > 0 and data["unknown"].to_list() == [pytest.approx(share)]
    errors = pd.read_csv(tmp_path / "page" / "tables" / "errors.csv")
    assert len(errors) and "cross" not in set(errors["class"])


@pytest.mark.parametrize("head", ["dense", "ridge"])
def test_tune_leaves_unknown_labels_out(
    head: str, annotations: Path, tiny_arguments: tuple[str, ...], tmp_path: Path
):
    options = (*tiny_arguments, f"data.annotations={annotations}", *SETTINGS, f"head={head}")
    small = ("++features.num_workers=0", "trainer.max_epochs=2", "tune.trials=2")
    results = tune(*options, *small, output=tmp_path / "search")
    trials = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert set(trials["state"]) <= {"finished", "pruned"}
    assert results["val"]["map"] == pytest.approx(trials["map"].iloc[0], rel=1e-5)


def test_a_loss_that_would_take_them_as_they_are_is_refused():
    check_loss(nn.BCEWithLogitsLoss(), np.array([[0, 1]]))
    check_loss(WeightedBCE([1.0, 1.0]), np.array([[0, -1]]))
    with pytest.raises(InputError, match="BCEWithLogitsLoss does not leave them out"):
        check_loss(nn.BCEWithLogitsLoss(), np.array([[0, -1]]))


def test_training_is_that_without_the_rows_of_a_class_that_are_unknown():
    random = torch.Generator().manual_seed(0)
    features = torch.randn(40, 6, generator=random)
    labels = (torch.rand(40, 1, generator=random) < 0.4).numpy().astype(np.int8)
    known = np.arange(40) % 3 > 0

    def trained(features: torch.Tensor, labels: np.ndarray) -> tuple[nn.Module, dict[str, float]]:
        torch.manual_seed(0)
        model = MultiLabelClassifier(
            nn.Linear(6, 1),
            WeightedBCE([0.3]),
            lambda parameters: torch.optim.Adam(parameters, lr=0.1),
            ["a"],
        )
        dataset = FeatureDataset(MemoryRows(features), labels)
        loader = DataLoader(dataset, len(labels), collate_fn=lambda batch: batch)
        options: dict[str, Any] = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar"), False
        )
        trainer = L.Trainer(max_epochs=5, accelerator="cpu", enable_model_summary=False, **options)
        trainer.fit(model, loader)
        return model.head, model.epoch_metrics

    ours, metrics = trained(features, np.where(known[:, None], labels, -1))
    theirs, expected = trained(features[torch.from_numpy(known)], labels[known])
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for name, value in metrics.items():
        assert value == pytest.approx(expected[name], abs=1e-6)


def test_a_copy_of_which_less_is_known_does_not_contradict(caplog: pytest.LogCaptureFixture):
    labels = np.array([[1, 0], [1, -1], [0, -1]])
    module = MultiLabelDataModule(lambda: LabelTable.build(".", ["a", "b", "c"], labels, ["x", "y"]))
    module.read_labels()
    module.hash_images = lambda paths: np.array([b"1", b"1", b"1"], dtype="S32")
    module.group_copies()
    assert "1 images are copies of other images but have different labels, such as 'c'" in caplog.text
    same, conflicting = find_duplicates(module.table, module.digests)
    assert (same.kind, same.detail) == ("duplicate", "same labels")
    assert (conflicting.kind, conflicting.detail) == ("conflicting_duplicate", "only there: x")
