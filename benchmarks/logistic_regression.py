"""One-vs-rest logistic regression on cached features, the baseline of heads."""

from collections.abc import Sequence

import numpy as np
import torch
from hydra.utils import instantiate
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mlic.config import compose
from mlic.data import LabelTable, cache_dir, stratified_split
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.features.source import CachedFeatures

# scikit-learn's default on raw features, and stronger penalties on standardised features
CANDIDATES = {
    "as they are, C=1": (False, 1.0),
    "standardised, C=0.03": (True, 0.03),
    "standardised, C=0.01": (True, 0.01),
    "standardised, C=0.003": (True, 0.003),
    "standardised, C=0.001": (True, 0.001),
}
INNER_FOLDS = 3


def logistic_regression(
    table: LabelTable, *, folds: int, fold: int, overrides: Sequence[str], seed: int = 0
) -> Predictions:
    """Fit on the training part of a fold and score its test part.

    The strength of the penalty is selected by cross-validation within the training part.

    Args:
        table: curated labels.
        folds: value of `data.split.folds`.
        fold: value of `data.split.fold`.
        overrides: overrides of the backbone.
        seed: seed of the split.

    Returns:
        Scores of the test part.
    """
    features = cached_features(table, overrides)
    split = stratified_split(table, val=0, folds=folds, fold=fold, seed=seed, on_missing="warn")
    chosen = max(CANDIDATES, key=lambda name: _inner_score(name, features, table, split.train))
    scores = _fit(chosen, features[split.train], table.labels[split.train]).predict_proba(
        features[split.test]
    )
    return Predictions(
        table.file_names[split.test],
        np.asarray(scores, dtype=np.float32),
        table.labels[split.test],
        table.classes,
    )


def cached_features(table: LabelTable, overrides: Sequence[str]) -> np.ndarray:
    """Return the features (N, F) of the images of a table from the stores in the cache folder."""
    config = compose("trainer=cpu", *overrides, output="unused")
    backbone = instantiate(config.model.backbone).optimize_for(torch.device("cpu"))
    source = CachedFeatures(
        backbone,
        directory=cache_dir() / "features",
        draft_size=backbone.resize_size,
        trainer={"accelerator": "cpu"},
    )
    source.extract(table.paths())
    dataset = source.dataset(table.paths(), table.labels)
    return dataset.__getitems__(range(len(table)))[0].flatten(1).numpy()


def _fit(name: str, features: np.ndarray, labels: np.ndarray) -> Pipeline:
    standardised, strength = CANDIDATES[name]
    steps = [StandardScaler()] if standardised else []
    regression = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=2000))
    return make_pipeline(*steps, regression).fit(features, labels)


def _inner_score(name: str, features: np.ndarray, table: LabelTable, rows: np.ndarray) -> float:
    """Return the mean mAP over folds of the training rows."""
    labels = table.labels[rows]
    strata = np.column_stack([labels, ~labels.any(axis=1)])
    splitter = MultilabelStratifiedKFold(n_splits=INNER_FOLDS, shuffle=True, random_state=0)
    values = []
    for train, test in splitter.split(np.zeros(len(rows)), strata):
        model = _fit(name, features[rows[train]], labels[train])
        scores = model.predict_proba(features[rows[test]])
        values.append(evaluate_scores(scores, labels[test], table.classes)["map"])
    return float(np.mean(values))
