"""Features and heads that `benchmarks.heads` compares, and their fits on one part of the images."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mlic.config import compose
from mlic.data import LabelTable
from mlic.evaluation.calibration import to_logits
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.evaluation.thresholds import fit_thresholds
from mlic.runs.folder import STATUS_FILE, THRESHOLDS_FILE, RunFolder
from mlic.training.run import prepare_features, run

_IMAGES = (
    "model.backbone.image_size=352", "model.backbone.crop_mode=squash", "model.backbone.crop_pct=1.0",
    "model.backbone.mirror=true",
)  # fmt: skip
_LITE2 = ("model=efficientnet_lite2", *_IMAGES)
_LITES = tuple(f"tf_efficientnet_lite{number}.in1k" for number in range(3))


def _members(names: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of networks side by side, each with images of 352 and of 448 pixels."""
    members = (f"{{name: {name},image_size: {size}}}" for name in names for size in (352, 448))
    return ("model=ensemble", *_IMAGES, f"model.backbone.members=[{','.join(members)}]")


FEATURES: dict[str, tuple[str, ...]] = {
    "lite2": _LITE2,
    "lite0 + lite1 + lite2": ("model=ensemble", *_IMAGES),
    "lite0": ("model=efficientnet_lite0", *_IMAGES),
    "lite2, 260 px": (*_LITE2, "model.backbone.image_size=260"),
    "lite2, 448 px": (*_LITE2, "model.backbone.image_size=448"),
    "lite2, centre crop": (*_LITE2, "model.backbone.crop_mode=center"),
    "lite2, without mirror image": (*_LITE2, "model.backbone.mirror=false"),
    "lite2, 448 px, without mirror image": (
        *_LITE2,
        "model.backbone.image_size=448",
        "model.backbone.mirror=false",
    ),
    "lite2, 260 px, centre crop of 0.89, without mirror image": ("model=efficientnet_lite2",),
    "lite2, 352 and 448 px": _members(_LITES[2:]),
    "lite0 + lite1 + lite2, 352 and 448 px": _members(_LITES),
    "maps of lite2": (*_LITE2, "model.backbone.pool=none"),
}

_RECIPE = (
    "head.standardize=true", "model.recipe.dropout=0.6", "model.recipe.hidden_dropout=0.5",
    "model.recipe.batch_size=128", "trainer.max_epochs=30", "callbacks=weight_average",
)  # fmt: skip
# heads that are trained by ordinary runs, and their settings; only ridge, also within the blend, chooses something
RUNS: dict[str, tuple[str, ...]] = {
    "ridge, power 0.5": ("head=ridge", "head.power=0.5"),
    "ridge, power 1": ("head=ridge", "head.power=1"),
    "report's head": (
        "model.recipe.hidden=[256]", "model.recipe.dropout=0.6", "model.recipe.batch_size=32",
        "trainer.max_epochs=40",
    ),
    "blend": ("head=blend", "model.recipe.hidden=[1024]", *_RECIPE),
    "dense 1024": ("model.recipe.hidden=[1024]", *_RECIPE),
    "linear": ("head=linear", *_RECIPE),
    "linear, 150 epochs": ("head=linear", *_RECIPE, "trainer.max_epochs=150"),
    "residual attention": ("head=csra", *_RECIPE),
    "attention": ("head=attention", *_RECIPE),
}  # fmt: skip

PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03)  # C of logistic regression
INNER_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Problem:
    """Features and labels of all images, and the rows to train on and to test on.

    Attributes:
        table: labels of N images.
        features: float32 (N, *feature_shape).
        overrides: the overrides of the backbone that computed them, and of all runs.
        train, test: row numbers.
        seed: seed of what is random in a fit.
        work: temporary folder of runs.
    """

    table: LabelTable
    features: Tensor
    overrides: Sequence[str]
    train: np.ndarray
    test: np.ndarray
    seed: int
    work: Path


@dataclass(frozen=True, eq=False)
class Fitted:
    """Result of a fit.

    Attributes:
        rows: int64 (M,), the test rows.
        logits: float64 (M, C), of the test rows.
        thresholds: float64 (C,), probabilities above which a label is predicted; 0.5 where the head chooses none.
        seconds: duration of the fit with all that it chooses.
    """

    rows: np.ndarray
    logits: np.ndarray
    thresholds: np.ndarray
    seconds: float


def stored_features(overrides: Sequence[str]) -> tuple[LabelTable, Tensor]:
    """Return the curated labels of a config, and the features float32 (N, *feature_shape) from the stores."""
    source: Any
    datamodule = prepare_features(compose("trainer=cpu", *overrides, output="unused"))
    table, source = datamodule.table, datamodule.features
    dataset = source.dataset(table.paths(), table.labels)
    return table, dataset.__getitems__(range(len(table)))[0].float()


def fit_logistic(problem: Problem) -> Fitted:
    """Fit one-vs-rest logistic regression on standardised features, its penalty by cross-validated mAP."""
    start = time.perf_counter()
    features = problem.features.flatten(1).numpy()
    labels = problem.table.labels[problem.train]
    strata = np.column_stack([labels, ~labels.any(axis=1)])
    splitter = MultilabelStratifiedKFold(n_splits=INNER_FOLDS, shuffle=True, random_state=problem.seed)
    inner = np.zeros((len(PENALTIES), *labels.shape))
    precision = np.zeros((len(PENALTIES), INNER_FOLDS))
    for fold, (train, test) in enumerate(splitter.split(np.zeros(len(labels)), strata)):
        inner_train, inner_test = (features[problem.train[rows]] for rows in (train, test))
        for number, penalty in enumerate(PENALTIES):
            inner[number, test] = _logistic_scores(penalty, inner_train, inner_test, labels[train])
            metrics = evaluate_scores(inner[number, test], labels[test], problem.table.classes)
            precision[number, fold] = metrics["map"]
    best = int(precision.mean(axis=1).argmax())
    scores = _logistic_scores(PENALTIES[best], features[problem.train], features[problem.test], labels)
    thresholds = fit_thresholds(inner[best], labels).per_class
    seconds = time.perf_counter() - start
    return Fitted(problem.test, to_logits(scores), thresholds, seconds)


def _logistic_scores(penalty: float, train: np.ndarray, test: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probabilities of the test rows."""
    scaler = StandardScaler().fit(train)
    scaled, scaled_test = (np.asarray(scaler.transform(rows)) for rows in (train, test))
    # penalised weights are combinations of the training rows, so that these axes lose nothing and save time
    axes = np.linalg.qr(scaled.T)[0]
    model = OneVsRestClassifier(LogisticRegression(C=penalty, max_iter=2000)).fit(scaled @ axes, labels)
    return np.asarray(model.predict_proba(scaled_test @ axes))


def fit_run(problem: Problem, name: str) -> Fitted:
    """Train a head of `RUNS` by an ordinary run."""
    table, rows = problem.table, np.sort(np.concatenate([problem.train, problem.test]))
    frame = pd.DataFrame(table.labels[rows], columns=list(table.classes))
    frame.insert(0, "file_name", table.file_names[rows])
    frame["part"] = np.where(np.isin(rows, problem.test), "test", "train")
    shutil.rmtree(problem.work, ignore_errors=True)
    problem.work.mkdir(parents=True)
    labels, folder = problem.work.resolve() / "labels.csv", RunFolder(problem.work / "run")
    frame.to_csv(labels, index=False)
    weights = name == "report's head" and "person" in table.classes
    config = compose(
        "data=csv", f"data.annotations='{labels}'", f"data.images='{table.image_dir}'",
        "data.reader.ignore_columns=[]", "data.split.column=part", "data.split.val=0",
        "data.split.on_missing=warn", "trainer=cpu", f"seed={problem.seed}",
        *(["+data.class_weights.scale={person: 0.5}"] if weights else []),
        *RUNS[name], *problem.overrides, output=folder.path,
    )  # fmt: skip
    run(config)
    found = Predictions.read_parquet(folder.predictions("test"))
    assert found.classes == table.classes and (found.file_names == table.file_names[problem.test]).all()
    seconds = json.loads((folder.path / STATUS_FILE).read_text())["seconds"]["fit"]
    thresholds = json.loads((folder.path / THRESHOLDS_FILE).read_text())["per_class"]
    shutil.rmtree(problem.work)
    limits = np.array([thresholds[label] for label in table.classes])
    return Fitted(problem.test, to_logits(found.scores), limits, seconds)
