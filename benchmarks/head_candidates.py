"""Features and heads that `benchmarks.heads` compares, and their fits on one part of the images."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
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
from mlic.models.ridge import RidgeHead
from mlic.runs.folder import STATUS_FILE, RunFolder
from mlic.training.run import prepare_features, run

_IMAGES = (
    "model.backbone.image_size=352", "model.backbone.crop_mode=squash", "model.backbone.crop_pct=1.0",
    "model.backbone.mirror=true",
)  # fmt: skip
_LITE2 = ("model=efficientnet_lite2", *_IMAGES)
_NAME = "tf_efficientnet_lite2.in1k"
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
    "lite2, 352 and 448 px": (
        "model=ensemble",
        *_IMAGES,
        f"model.backbone.members=[{{name: {_NAME}}},{{name: {_NAME},image_size: 448}}]",
    ),
    "maps of lite2": (*_LITE2, "model.backbone.pool=none"),
}

_RECIPE = (
    "head.standardize=true", "model.recipe.dropout=0.6", "model.recipe.hidden_dropout=0.5",
    "model.recipe.batch_size=128", "trainer.max_epochs=30", "callbacks=weight_average",
)  # fmt: skip
_TRAINED: dict[str, tuple[str, ...]] = {
    "report's head": (
        "model.recipe.hidden=[256]", "model.recipe.dropout=0.6", "model.recipe.batch_size=32",
        "trainer.max_epochs=40",
    ),
    "dense 1024": ("model.recipe.hidden=[1024]", *_RECIPE),
    "linear": ("head=linear", *_RECIPE),
    "residual attention": ("head=csra", *_RECIPE),
    "attention": ("head=attention", *_RECIPE),
}  # fmt: skip

PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03)  # C of logistic regression
INNER_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Problem:
    """Features and labels of all images, and the rows to train on and to test on.

    Attributes:
        features: float32 (N, *feature_shape), of the rows of `table`.
        overrides: the overrides of the backbone that computed them.
        train, test: row numbers.
        seed: seed of what is random in a fit.
        work: temporary folder.
        epochs: number of epochs in place of the recipe's; None keeps it.
    """

    table: LabelTable
    features: Tensor
    overrides: Sequence[str]
    train: np.ndarray
    test: np.ndarray
    seed: int
    work: Path
    epochs: int | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """Result of a fit.

    Attributes:
        rows: int64 (M,), the test rows.
        logits: float64 (M, C), of the test rows.
        spread: float64 (C,), standard deviation of the logits over the training rows.
        thresholds: float64 (C,), probabilities above which a label is predicted.
        seconds: duration of the fit with all that it chooses.
        chosen: the penalty chosen within the training rows, or NaN.
    """

    rows: np.ndarray
    logits: np.ndarray
    spread: np.ndarray
    thresholds: np.ndarray
    seconds: float
    chosen: float


def stored_features(overrides: Sequence[str]) -> tuple[LabelTable, Tensor]:
    """Return the curated labels of a config, and the features float32 (N, *feature_shape) from the stores."""
    source: Any
    datamodule, _ = prepare_features(compose("trainer=cpu", *overrides, output="unused"))
    table, source = datamodule.table, datamodule.features
    dataset = source.dataset(table.paths(), table.labels)
    return table, dataset.__getitems__(range(len(table)))[0].float()


def fit_ridge(problem: Problem, power: float) -> Fitted:
    """Fit a ridge head, whose penalty, calibration and thresholds come from leave-one-out scores."""
    start = time.perf_counter()
    features, labels = problem.features[problem.train], problem.table.labels[problem.train]
    head = RidgeHead(features.shape[1:], labels.shape[1], power=power)
    fit = head.fit_closed_form(lambda rows: features[rows], labels)
    thresholds = fit_thresholds(fit.scores, labels).per_class
    seconds = time.perf_counter() - start
    with torch.no_grad():
        logits = head(problem.features[problem.test]).double().numpy()
    return Fitted(problem.test, logits, to_logits(fit.scores).std(axis=0), thresholds, seconds, fit.penalty)


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
            inner[number, test] = _logistic_scores(penalty, inner_train, inner_test, labels[train])[1]
            metrics = evaluate_scores(inner[number, test], labels[test], problem.table.classes)
            precision[number, fold] = metrics["map"]
    best = int(precision.mean(axis=1).argmax())
    train_scores, test_scores = _logistic_scores(
        PENALTIES[best], features[problem.train], features[problem.test], labels
    )
    thresholds = fit_thresholds(inner[best], labels).per_class
    seconds = time.perf_counter() - start
    logits, spread = to_logits(test_scores), to_logits(train_scores).std(axis=0)
    return Fitted(problem.test, logits, spread, thresholds, seconds, PENALTIES[best])


def _logistic_scores(
    penalty: float, train: np.ndarray, test: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of training and test rows."""
    scaler = StandardScaler().fit(train)
    scaled, scaled_test = (np.asarray(scaler.transform(rows)) for rows in (train, test))
    # penalised weights are combinations of the training rows, so that these axes lose nothing and save time
    axes = np.linalg.qr(scaled.T)[0]
    model = OneVsRestClassifier(LogisticRegression(C=penalty, max_iter=2000)).fit(scaled @ axes, labels)
    train_scores, test_scores = (model.predict_proba(rows @ axes) for rows in (scaled, scaled_test))
    return np.asarray(train_scores), np.asarray(test_scores)


def fit_trained(problem: Problem, name: str) -> Fitted:
    """Train a head by an ordinary run with fixed settings; it chooses nothing, and its thresholds are 0.5."""
    table = problem.table
    frame = pd.DataFrame(table.labels, columns=list(table.classes))
    frame.insert(0, "file_name", table.file_names)
    frame["part"] = "none"
    frame.loc[problem.train, "part"], frame.loc[problem.test, "part"] = "train", "test"
    shutil.rmtree(problem.work, ignore_errors=True)
    problem.work.mkdir(parents=True)
    labels = problem.work.resolve() / "labels.csv"
    frame[frame["part"] != "none"].to_csv(labels, index=False)
    overrides = [
        "data=csv", f"data.annotations='{labels}'", f"data.images='{table.image_dir}'",
        "data.reader.ignore_columns=[]", "data.split.column=part", "data.split.val=0",
        "data.split.on_missing=warn", "trainer=cpu", f"seed={problem.seed}", *_TRAINED[name], *problem.overrides,
    ]  # fmt: skip
    if name == "report's head" and "person" in table.classes:
        overrides.append("+data.class_weights.scale={person: 0.5}")
    if problem.epochs:
        overrides.append(f"trainer.max_epochs={problem.epochs}")
    folder = RunFolder(problem.work / "run")
    config = compose(*overrides, output=folder.path)
    run(config)
    found = Predictions.read_parquet(folder.predictions("test"))
    position = {name: place for place, name in enumerate(found.file_names)}
    order = [position[name] for name in table.file_names[problem.test]]
    columns = [found.classes.index(name) for name in table.classes]
    head = instantiate(config.head)(problem.features.shape[1:], len(table.classes))
    state = torch.load(folder.best_checkpoint, weights_only=True)["state_dict"]
    head.load_state_dict(
        {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
    )
    with torch.no_grad():
        spread = head.eval()(problem.features[problem.train]).std(dim=0).numpy()[columns]
    seconds = json.loads((folder.path / STATUS_FILE).read_text())["seconds"]["fit"]
    shutil.rmtree(problem.work)
    logits = to_logits(found.scores)[order][:, columns]
    return Fitted(problem.test, logits, spread, np.full(len(columns), 0.5), seconds, np.nan)


HEADS: dict[str, Callable[[Problem], Fitted]] = {
    "ridge, power 0.5": lambda problem: fit_ridge(problem, 0.5),
    "ridge, power 1": lambda problem: fit_ridge(problem, 1.0),
    "logistic regression": fit_logistic,
    **{name: lambda problem, name=name: fit_trained(problem, name) for name in _TRAINED},
}
