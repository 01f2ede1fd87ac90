"""The cost of features in 8-bit integers: `python -m mlic.extract check=int8`."""

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.evaluation.bootstrap import Bootstrap, paired_differences
from mlic.evaluation.predictions import Predictions
from mlic.features.source import CachedFeatures
from mlic.models import Backbone, RidgeHead
from mlic.training.run import prepare

FORMATS = ("int8", "float32")


def check_int8(config: DictConfig) -> str:
    """Extract the features of a data set in int8 and in float32, and compare a ridge head on both.

    Args:
        config: config of a run; heads are fitted on its training part and compared on its test part.

    Returns:
        The mAP of both on test with the paired interval of the difference.

    Raises:
        InputError: the test part is empty, or see `mlic.training.run.prepare`.
    """
    split, no_test = config.data.split, "check=int8 compares heads on test images: set data.split.test."
    # before the extraction, which may take hours; parts that the user gives are known after it
    if not split.test and not any(split.get(key) for key in ("column", "files", "keep")):
        raise InputError(no_test, key="check")
    scored = {}
    for precision in FORMATS:
        own = OmegaConf.merge(config, {"model": {"backbone": {"precision": precision}}})
        assert isinstance(own, DictConfig)
        datamodule, backbone = prepare(own)
        if not len(datamodule.split.test):
            raise InputError(no_test, key="check")
        scored[precision] = Bootstrap(_fit_and_predict(datamodule, backbone), names=["map"])
    (difference,) = paired_differences(scored, "map")
    maps = {precision: scored[precision].estimates["map"] for precision in FORMATS}
    return (
        f"test mAP of head=ridge: int8 {maps['int8']:.4f}, float32 {maps['float32']:.4f}, difference "
        f"{difference.estimate:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) on "
        f"{len(datamodule.split.test)} images"
    )


def _fit_and_predict(datamodule: MultiLabelDataModule, backbone: Backbone) -> Predictions:
    assert isinstance(datamodule.features, CachedFeatures)
    table, features = datamodule.table, datamodule.features.rows
    train, test = (torch.from_numpy(rows) for rows in (datamodule.split.train, datamodule.split.test))
    head = RidgeHead(backbone.feature_shape, len(table.classes))
    groups = None if table.groups is None else np.unique(table.groups[train], return_inverse=True)[1]
    head.fit_closed_form(lambda rows: features.gather(train[rows]).cpu(), table.labels[train], groups)
    scores = torch.sigmoid(head(features.gather(test).cpu())).numpy()
    return Predictions(table.file_names[test], scores, table.labels[test], table.classes)
