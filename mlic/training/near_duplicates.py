"""Near duplicates in a run: groups for its split, and a warning about test images with one in train."""

import logging
from typing import Any

import numpy as np

from mlic.data import LabelTable, MultiLabelDataModule
from mlic.errors import InputError
from mlic.features.near_duplicates import check_threshold, count_near_duplicates, near_duplicate_groups
from mlic.features.source import CachedFeatures
from mlic.runs.processes import broadcast_decision

logger = logging.getLogger(__name__)


def set_grouping(datamodule: MultiLabelDataModule) -> None:
    """Set the function that finds the groups of near duplicates, if the split asks for them.

    Raises:
        InputError: the data module has no stored features, or the threshold is out of range.
    """
    groups, features = datamodule.split_settings.groups, datamodule.features
    check_threshold(groups.threshold)
    if groups.by != "duplicates":
        return
    if not isinstance(features, CachedFeatures):
        raise InputError(
            "data.split.groups.by=duplicates requires features=cached. Train once with it, then use its split with "
            "data.split.keep=<its run folder>.",
            key="data.split.groups.by",
        )

    def group(table: LabelTable) -> np.ndarray:
        features.dataset(table.paths(), table.labels)
        # devices may round differently, and all processes need the same groups
        return broadcast_decision(lambda: near_duplicate_groups(features.descriptors(), groups.threshold))

    datamodule.group_images = group


def near_duplicates_in_train(datamodule: MultiLabelDataModule) -> dict[str, Any] | None:
    """Count the test images with a near duplicate in train, and warn about them.

    Args:
        datamodule: data module after `setup`.

    Returns:
        The threshold and the count; None if features are not in memory, since reading them again would take long.
    """
    source, split, groups = datamodule.features, datamodule.split, datamodule.split_settings.groups
    if not isinstance(source, CachedFeatures) or not source.can_compare or not len(split.test):
        return None
    found = count_near_duplicates(source.descriptors(), split.test, split.train, groups.threshold)
    if found:
        logger.warning(
            "%d of %d test images have a near duplicate in train, so that scores may be too high: %s.",
            *(found, len(split.test)),
            "the given parts divide them"
            if groups.by == "duplicates"
            else "data.split.groups.by=duplicates keeps them in one part",
        )
    return {"threshold": groups.threshold, "test_images_in_train": found}
