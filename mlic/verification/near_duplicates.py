"""Near duplicates of a data set by their features: a table of pairs, and findings for those that the split divides."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from mlic.data.datamodule import MultiLabelDataModule
from mlic.features.near_duplicates import similar_pairs
from mlic.training.run import prepare_features
from mlic.verification.findings import Finding

MOST_PAIRS = 10_000


def read_features(config: DictConfig) -> MultiLabelDataModule:
    """Compute the features of `model` for all usable images.

    Args:
        config: composed from `conf/verify.yaml`.

    Returns:
        The data module; it has a split if `near_duplicates` is set.

    Raises:
        InputError: settings are invalid, or features cannot be computed.
    """
    config = config.copy()
    # unusable images and rare classes were already reported
    config.data.on_bad_image, config.data.split.on_missing = "drop", "warn"
    datamodule = prepare_features(config)
    if config.near_duplicates:
        datamodule.setup()
    else:
        datamodule.group_copies()  # a copy of an image in another fold would leak its labels
    return datamodule


def near_duplicate_pairs(datamodule: MultiLabelDataModule) -> pd.DataFrame:
    """Find near duplicates by their features.

    Args:
        datamodule: images with features and their split, see `read_features`.

    Returns:
        One row per pair, first those that the split divides, each with the most similar first: `file_name`, `near`,
        `similarity`, `part`, `near_part`, and `same_labels` (0 or 1). Files of the same bytes are not among them.
    """
    source: Any = datamodule.features
    threshold = datamodule.split_settings.groups.threshold
    (first, second), similarities = _most_similar(
        similar_pairs(source.descriptors(), threshold), datamodule.digests
    )
    table, parts = datamodule.table, np.array(datamodule.split.names())
    pairs = pd.DataFrame(
        {
            "file_name": table.file_names[first],
            "near": table.file_names[second],
            "similarity": similarities,
            "part": parts[first],
            "near_part": parts[second],
            "same_labels": (table.labels[first] == table.labels[second]).all(axis=1).astype(int),
        }
    )
    divided = pairs["part"] != pairs["near_part"]
    return pairs.loc[np.argsort(~divided, kind="stable")]


def find_divided(pairs: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding for each pair of `near_duplicate_pairs` in different parts of the split."""
    for name, near, similarity, part, near_part, _ in pairs.itertuples(index=False):
        if part != near_part:
            detail = f"{part} and {near_part}, similarity {similarity:.3f}"
            yield Finding("near_duplicate", name, same_as=near, detail=detail)


def _most_similar(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], digests: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `MOST_PAIRS` pairs (2, P) of different files and their similarities, the most similar first."""
    pairs, similarities = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32)
    for new, values in blocks:
        differ = digests[new[:, 0]] != digests[new[:, 1]]
        pairs, similarities = np.concatenate([pairs, new[differ]]), np.append(similarities, values[differ])
        order = np.argsort(-similarities, kind="stable")[:MOST_PAIRS]
        pairs, similarities = pairs[order], similarities[order]
    return pairs.T, similarities
