"""Errors planted in the labels: how many are among the first of the two rankings of `labels=suspect`."""

import numpy as np
from omegaconf import DictConfig

from benchmarks.head_candidates import stored_features
from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.config import compose
from mlic.data import LabelTable
from mlic.data.splitting import stratified_folds
from mlic.verification.suspects import cross_validated_scores, plant_errors, rank_suspects

FOLDS = 5
FIRST = (20, 50, 60, 100)


def suspects(setting: Setting) -> list[Row]:
    """Plant 30 exchanged images, and flip 3 % of the labels; report the errors among the first places."""
    options = compose(output=setting.work, config_name="verify").suspects
    table, maps = stored_features([*setting.overrides(), f"data.min_images_per_class={FOLDS}"])
    features = maps.flatten(1).numpy()
    planted = {
        "exchanged": min(30, len(table) // 10),
        "flipped": max(2, round(0.03 * table.counts().sum())),
    }
    rows = []
    for kind, number in planted.items():
        found = np.mean(
            [
                _found(
                    table,
                    features,
                    plant_errors(table.labels, kind, number, np.random.default_rng(seed)),
                    options,
                )
                for seed in range(setting.choose(10, 1))
            ],
            axis=0,
        )
        for ranking, counts in zip(("images", "labels"), found, strict=True):
            shares = ", ".join(
                f"{count / first:.2f} of the first {first}"
                for first, count in zip(FIRST, counts, strict=True)
            )
            wanted = kind == "exchanged" and ranking == "images"
            rows.append(
                Row(
                    f"{number} {kind}: found among the first 60 {ranking}",
                    float(counts[FIRST.index(60)]),
                    target=">= 25" if wanted else None,
                    detail=f"{shares}; mean of {setting.choose(10, 1)} draws",
                )
            )
    return rows


def _found(
    table: LabelTable, features: np.ndarray, labels: np.ndarray, options: DictConfig
) -> list[list[int]]:
    """Return the number of planted errors among the first images and the first labels."""
    wrong = labels != table.labels
    changed = LabelTable.build(table.image_dir, table.file_names, labels, table.classes)
    folds = stratified_folds(changed, FOLDS)
    scores = cross_validated_scores(features, labels, folds, penalty=options.penalty)
    ranking = rank_suspects(changed, scores, most=max(FIRST))
    images = np.searchsorted(table.file_names, ranking.images["file_name"].to_numpy())
    rows = np.searchsorted(table.file_names, ranking.labels["file_name"].to_numpy())
    columns = np.searchsorted(np.array(table.classes), ranking.labels["class"].to_numpy(str))
    of_images, of_labels = wrong[images].any(axis=1), wrong[rows, columns]
    return [[int(hits[:first].sum()) for first in FIRST] for hits in (of_images, of_labels)]
