"""Alternatives to this package: scikit-learn on the same features, or a plain loop with a live backbone."""

from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks import bare
from benchmarks.rows import Row
from benchmarks.runs import FinishedRun, make_backbone, real_run, store_in
from benchmarks.setting import Setting, cores
from benchmarks.timing import measured
from mlic.config import compose
from mlic.data import MultiLabelDataModule
from mlic.evaluation.metrics import evaluate_scores
from mlic.features.source import CachedFeatures
from mlic.models import FrozenBackbone

Part = tuple[np.ndarray, np.ndarray]


def alternatives(setting: Setting) -> list[Row]:
    """Compare seconds and mAP with those of a run of this package."""
    store = setting.work / "alternatives"
    ours = real_run(setting, "alternatives", store_in(store))
    backbone = make_backbone(setting)
    parts, classes = _parts(setting, backbone, store)
    return [_regression(ours, parts, classes), _report_protocol(setting, ours, backbone)]


def _regression(ours: FinishedRun, parts: dict[str, Part], classes: tuple[str, ...]) -> Row:
    with measured() as clock:
        model = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=1000)))
        model.fit(*parts["train"])
        scores = model.predict_proba(parts["test"][0])
    metrics = evaluate_scores(scores, parts["test"][1], classes)
    fit = ours.seconds["fit"]
    return Row(
        "scikit-learn's logistic regression on the same features / our fit, seconds",
        clock.wall / fit,
        detail=f"one-vs-rest, standardised: {clock.wall:.1f} s, test mAP {metrics['map']:.4f}; ours {fit:.1f} s with "
        f"val metrics and checkpoints each epoch, test mAP {ours.results['test']['map']:.4f}",
    )


def _report_protocol(setting: Setting, ours: FinishedRun, backbone: FrozenBackbone) -> Row:
    """Decode, run the backbone in float32 and the head in every epoch; extrapolated from a part of one epoch."""
    images = ours.read("dataset.json")["images"]
    number = images["train"] + images["val"]
    paths = setting.photographs()[: setting.choose(96, 32)]
    plain = FrozenBackbone(backbone.name, pretrained=not setting.quick, precision="float32")
    head = bare.made_training(
        64, plain.feature_shape, len(ours.read("dataset.json")["classes"]), num_train=64
    )
    plain(torch.zeros(bare.BATCH_SIZE, 3, plain.image_size, plain.image_size, dtype=torch.uint8))
    with measured() as clock:
        for batch in bare.batches(paths, plain, cores()):
            head.step(plain(batch), head.targets[: len(batch)])
    seconds = clock.wall / len(paths) * number * setting.epochs
    mine = ours.seconds["features"] + ours.seconds["fit"]
    return Row(
        "a plain PyTorch loop that runs the backbone every epoch / ours, seconds",
        seconds / mine,
        detail=f"float32 as timm gives the network: {seconds:.0f} s for {setting.epochs} epochs of {number} images, "
        f"scaled from one pass over {len(paths)} images in {clock.wall:.1f} s; ours, extraction and fit, {mine:.1f} s",
    )


def _parts(setting: Setting, backbone: FrozenBackbone, store: Any) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Return features and labels of train and test of the run."""
    config = compose(*setting.overrides(), output=setting.work / "unused")
    datamodule: MultiLabelDataModule = instantiate(config.data)
    datamodule.resize_size = backbone.resize_size
    datamodule.features = CachedFeatures(
        backbone,
        directory=store,
        draft_size=datamodule.draft_size,
        trainer={"accelerator": "cpu", "devices": 1},
    )
    datamodule.setup()
    parts = {}
    for part in ("train", "test"):
        batches: list[tuple[Tensor, Tensor, Tensor]] = list(datamodule.loader(part))
        parts[part] = tuple(torch.cat([batch[place] for batch in batches]).numpy() for place in (0, 1))
    return parts, datamodule.table.classes
