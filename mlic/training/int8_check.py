"""The cost and the gain of features in 8-bit integers: `python -m mlic.extract check=int8`."""

import time

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mlic.data import MultiLabelDataModule
from mlic.data.image_dataset import ImageDataset
from mlic.errors import InputError
from mlic.evaluation.bootstrap import Bootstrap, paired_differences
from mlic.evaluation.predictions import Predictions
from mlic.features.predicting import ENGINES_FILE
from mlic.features.source import CachedFeatures
from mlic.models import Backbone, RidgeHead
from mlic.training.resuming import features_dir
from mlic.training.run import prepare

FORMATS = ("int8", "float32")
IMAGES, TURNS = 32, 3  # of the measurement of speed


def check_int8(config: DictConfig) -> str:
    """Extract the features of a data set in int8 and in float32, and compare a ridge head on both.

    Args:
        config: config of a run; heads are fitted on its training part and compared on its test part.

    Returns:
        The mAP of both on test with the paired interval of the difference, cosine of the features, and images/s.

    Raises:
        InputError: the test part is empty, or see `mlic.training.run.prepare`.
    """
    split, no_test = config.data.split, "check=int8 compares heads on test images: set data.split.test."
    # before the extraction, which may take hours; parts that the user gives are known after it
    if not split.test and not any(split.get(key) for key in ("column", "files", "keep")):
        raise InputError(no_test, key="check")
    backbones, features, scored, images = {}, {}, {}, torch.empty(0)
    for precision in FORMATS:
        own = OmegaConf.merge(config, {"model": {"backbone": {"precision": precision}}})
        assert isinstance(own, DictConfig)
        datamodule, backbones[precision] = prepare(own)
        if not len(datamodule.split.test):
            raise InputError(no_test, key="check")
        features[precision] = _rows(datamodule, datamodule.split.test)
        predictions = _fit_and_predict(datamodule, backbones[precision], features[precision])
        scored[precision] = Bootstrap(predictions, names=["map"])
        images = _some_images(datamodule)
        backbones[precision].choose_engine(images, features_dir(config) / ENGINES_FILE)
    (difference,) = paired_differences(scored, "map")
    cosines = cosine_similarity(features["int8"].flatten(1), features["float32"].flatten(1))
    speeds = _images_per_second(backbones, images)
    maps = {precision: scored[precision].estimates["map"] for precision in FORMATS}
    return (
        f"test mAP of head=ridge: int8 {maps['int8']:.4f}, float32 {maps['float32']:.4f}, difference "
        f"{difference.estimate:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) on {len(cosines)} images; "
        f"network: int8 {speeds['int8']:.1f} images/s, float32 {speeds['float32']:.1f}; mean cosine of the features "
        f"{cosines.mean():.4f}"
    )


def _rows(datamodule: MultiLabelDataModule, rows: np.ndarray) -> Tensor:
    assert isinstance(datamodule.features, CachedFeatures)
    return datamodule.features.rows.gather(torch.from_numpy(rows)).cpu()


def _fit_and_predict(datamodule: MultiLabelDataModule, backbone: Backbone, tested: Tensor) -> Predictions:
    table, train, test = datamodule.table, datamodule.split.train, datamodule.split.test
    head = RidgeHead(backbone.feature_shape, len(table.classes))
    groups = None if table.groups is None else np.unique(table.groups[train], return_inverse=True)[1]
    head.fit_closed_form(lambda rows: _rows(datamodule, train[rows.numpy()]), table.labels[train], groups)
    scores = torch.sigmoid(head(tested)).numpy()
    return Predictions(table.file_names[test], scores, table.labels[test], table.classes)


def _some_images(datamodule: MultiLabelDataModule) -> Tensor:
    assert isinstance(datamodule.features, CachedFeatures)
    paths, transform = datamodule.table.paths()[:IMAGES], datamodule.features.backbone.transform
    images = ImageDataset(paths, transform, draft_size=datamodule.draft_size)
    return torch.stack([images[row][0] for row in range(len(images))])


def _images_per_second(backbones: dict[str, Backbone], images: Tensor) -> dict[str, float]:
    """Measure the networks in turns; the least time is the one that other programs disturbed least."""
    seconds = {name: [] for name in backbones}
    for turn in range(TURNS + 1):
        for name, backbone in backbones.items():
            start = time.perf_counter()
            backbone(images)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: len(images) / min(values) for name, values in seconds.items()}
