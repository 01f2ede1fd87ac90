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

# Comparing all of 4,000 test images with 16,000 training images took 1.1 s on 2 cores, and would take 37 s with 118,000
# images, in each run of a sweep. The share of so many is known well enough.
MOST_COMPARED = 2_000


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
    """Count the test images with a near duplicate in train, of at most 2,000, and warn about them.

    Args:
        datamodule: data module after `setup`.

    Returns:
        The threshold, the number of compared test images and the count; None if features are not in memory, since
        reading them again would take long.
    """
    source, split, groups = datamodule.features, datamodule.split, datamodule.split_settings.groups
    if not isinstance(source, CachedFeatures) or not source.can_compare or not len(split.test):
        return None
    compared = split.test[:: -(-len(split.test) // MOST_COMPARED)]
    found = count_near_duplicates(source.descriptors(), compared, split.train, groups.threshold)
    if found:
        logger.warning(
            "%d of %d compared test images have a near duplicate in train, so that scores may be too high: %s.",
            found,
            len(compared),
            "the given parts divide them"
            if groups.by == "duplicates"
            else "data.split.groups.by=duplicates keeps them in one part",
        )
    return {"threshold": groups.threshold, "compared": len(compared), "test_images_in_train": found}
