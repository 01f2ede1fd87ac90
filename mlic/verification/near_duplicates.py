"""Near duplicates of a data set: a table, a sheet of pairs, and findings for pairs that the split would divide."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from mlic.features.near_duplicates import similar_pairs
from mlic.runs.folder import RunFolder, replacing_together
from mlic.training.run import prepare_features
from mlic.verification.findings import Finding
from mlic.verification.report import NEAR_DUPLICATE_SHEET, NEAR_DUPLICATES, write_table
from mlic.verification.sheets import caption_pairs, write_sheet

MOST_PAIRS = 10_000


def write_near_duplicates(config: DictConfig, folder: RunFolder) -> list[Finding]:
    """Find near duplicates by the features of `model`; write near_duplicates.csv and near_duplicates.png.

    Args:
        config: composed from `conf/verify.yaml`.
        folder: output folder.

    Returns:
        One finding for each pair in different parts of the split. Files of the same bytes are not among them.

    Raises:
        InputError: settings are invalid, or features cannot be computed.
    """
    config = config.copy()
    # unusable images and rare classes were already reported
    config.data.on_bad_image, config.data.split.on_missing = "drop", "warn"
    datamodule, _ = prepare_features(config)
    datamodule.setup()
    source: Any = datamodule.features
    threshold = datamodule.split_settings.groups.threshold
    pairs, similarities = _most_similar(similar_pairs(source.descriptors(), threshold), datamodule.digests)
    table, parts = datamodule.table, np.array(datamodule.split.names())
    # pairs that the split divides first
    order = np.argsort(parts[pairs[:, 0]] == parts[pairs[:, 1]], kind="stable")
    (first, second), similarities = pairs[order].T, similarities[order]
    same = (table.labels[first] == table.labels[second]).all(axis=1)
    columns = {"file_name": table.file_names[first], "near": table.file_names[second]}
    columns |= {"similarity": similarities, "part": parts[first], "near_part": parts[second]}
    columns["same_labels"] = same.astype(int)
    found = [
        Finding(
            "near_duplicate", name, same_as=near, detail=f"{part} and {near_part}, similarity {value:.3f}"
        )
        for name, near, value, part, near_part, _ in zip(*columns.values(), strict=True)
    ]
    with replacing_together(folder.path) as new:
        write_table(new / NEAR_DUPLICATES, pd.DataFrame(columns))
        write_sheet(
            new / NEAR_DUPLICATE_SHEET,
            list(caption_pairs(table, ((each.file_name, each.same_as, each.detail) for each in found))),
            title="Near duplicates, in pairs",
            bits_stored=datamodule.bits_stored,
        )
    divided = parts[first] != parts[second]
    return [finding for finding, apart in zip(found, divided, strict=True) if apart]


def _most_similar(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], digests: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `MOST_PAIRS` pairs of different files and their similarities, the most similar first."""
    pairs, similarities = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32)
    for new, values in blocks:
        differ = digests[new[:, 0]] != digests[new[:, 1]]
        pairs, similarities = np.concatenate([pairs, new[differ]]), np.append(similarities, values[differ])
        order = np.argsort(-similarities, kind="stable")[:MOST_PAIRS]
        pairs, similarities = pairs[order], similarities[order]
    return pairs, similarities
