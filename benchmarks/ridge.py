"""Time of the ridge head on a large set, against the product of the features with themselves."""

import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.models import RidgeHead

IMAGES, FEATURES, CLASSES = 200_000, 1_280, 80
SHARE = 0.08  # of positive labels
CHUNK = 8_192


def ridge(setting: Setting) -> list[Row]:
    """Fit 200,000 random rows with 80 classes, all labels known, with the choice among 17 penalties."""
    number, width = setting.choose(IMAGES, 2_000), setting.choose(FEATURES, 64)
    features, labels = _draw(number, width)
    whole = features.float()
    start = time.perf_counter()
    _ = whole.T @ whole
    product = time.perf_counter() - start
    del whole
    head = RidgeHead((width,), CLASSES)
    start = time.perf_counter()
    head.fit_closed_form(lambda rows: features.index_select(0, rows).float(), labels)
    seconds = time.perf_counter() - start
    return [
        Row(
            f"ridge head, {number:,} x {width:,}, {CLASSES} classes / float32 X'X",
            seconds / product,
            target="<= 4",
            detail=f"{seconds:.1f} s with leave-one-out of all rows; the bare product {product:.1f} s",
        )
    ]


def _draw(number: int, width: int) -> tuple[Tensor, np.ndarray]:
    """Return random features float16 (N, F), and labels that depend on them linearly with noise."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(width, CLASSES, generator=generator) / width**0.5
    features = torch.rand(number, width, generator=generator).half()
    labels = np.empty((number, CLASSES), dtype=np.int8)
    for rows in torch.arange(number).split(CHUNK):
        scores = (features[rows].float() - 0.5) @ weights * 12**0.5
        scores += torch.randn(scores.shape, generator=generator)
        labels[rows.numpy()] = (scores > scores.quantile(1 - SHARE, dim=0)).numpy()
    return features, labels
