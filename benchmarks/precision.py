"""Gain and effect of the selected number format, memory format and decoding."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from benchmarks.bare import BATCH_SIZE, Photographs
from benchmarks.rows import Row
from benchmarks.runs import FinishedRun, make_backbone, real_run, store_in
from benchmarks.setting import Setting
from benchmarks.timing import median_core, median_wall, take_turns
from mlic.data.images import open_image
from mlic.models import FrozenBackbone

# timm names, and True for pretrained weights
NETWORKS = {"tf_efficientnet_lite0.in1k": True, "tf_efficientnet_lite2.in1k": True, "resnet50": False}
NUM_SEEDS = 3  # of the head
ENLARGED = 4  # times as wide and high


def number_format(setting: Setting) -> list[Row]:
    """Compare forward passes in the selected precision and channels-last with float32 in NCHW, and the mAP."""
    networks = NETWORKS if not setting.quick else {"test_efficientnet": False}
    rows = [_forward_passes(setting, name, pretrained) for name, pretrained in networks.items()]
    chosen, reference = (
        _runs(setting, f"precision_{name}", f"model.backbone.precision={name}")
        for name in ("auto", "float32")
    )
    rows.append(_map_row("test mAP: chosen precision - float32", chosen, reference, "efficientnet_lite2"))
    return rows


def decoding(setting: Setting) -> list[Row]:
    """Compare JPEGs decoded at reduced and at full size, on enlarged copies of photographs."""
    data = _enlarge(setting)
    backbone = make_backbone(setting)
    paths = sorted((data / "images").iterdir())[: setting.choose(24, 4)]
    reduced, whole = Photographs(paths, backbone), Photographs(paths, backbone, draft=False)
    clocks = take_turns(
        {"reduced": lambda: _all(reduced), "whole": lambda: _all(whole)}, setting.choose(3, 1)
    )
    seconds = {name: median_core(clock) / len(paths) for name, clock in clocks.items()}
    difference = _relative_difference(backbone(_all(reduced)), backbone(_all(whole)))
    big = Setting(data, setting.work, setting.quick)
    runs, reference = (_runs(big, f"decoding_{way}", f"data.decode={way}") for way in ("reduced", "exact"))
    width, height = open_image(paths[0]).size
    num_images = len(list((data / "images").iterdir()))
    return [
        Row(
            f"JPEGs of {width} x {height}: decoded whole / reduced",
            seconds["whole"] / seconds["reduced"],
            target=">= 1",
            detail=f"{seconds['whole'] * 1e3:.1f} and {seconds['reduced'] * 1e3:.1f} core-ms an image with transform; "
            f"features differ by {difference:.2%}",
        ),
        _map_row("test mAP: reduced - exact decoding", runs, reference, f"{num_images} enlarged photographs"),
    ]


def _forward_passes(setting: Setting, name: str, pretrained: bool) -> Row:
    plain = FrozenBackbone(name, pretrained=pretrained, precision="float32")
    chosen = FrozenBackbone(name, pretrained=pretrained).optimize_for(torch.device("cpu"))
    chosen.network.load_state_dict(plain.network.state_dict())
    paths = setting.photographs()
    batch = _all(Photographs(paths[:: max(1, len(paths) // BATCH_SIZE)][:BATCH_SIZE], plain))
    clocks = take_turns(
        {"plain": lambda: plain(batch), "chosen": lambda: chosen(batch)}, setting.choose(3, 1)
    )
    rates = {name: len(batch) / median_wall(clock) for name, clock in clocks.items()}
    difference = _relative_difference(chosen(batch), plain(batch))
    return Row(
        f"forward passes, chosen / plain float32 NCHW: {name}",
        rates["chosen"] / rates["plain"],
        target=">= 1",
        detail=f"{rates['chosen']:.1f} images/s in {chosen.precision}, channels-last, {rates['plain']:.1f} plain; "
        f"features differ by {difference:.2%}",
    )


def _relative_difference(features: Tensor, reference: Tensor) -> float:
    """Return the norm of the difference divided by the norm of the reference."""
    return ((features - reference).norm() / reference.norm()).item()


def _all(photographs: Photographs) -> Tensor:
    return torch.stack([photographs[index] for index in range(len(photographs))])


def _runs(setting: Setting, name: str, override: str) -> list[FinishedRun]:
    """Train one run per seed of the head on the same features."""
    store = store_in(setting.work / "shared_store")
    return [
        real_run(setting, f"{name}_{seed}", f"seed={seed}", store, override)
        for seed in range(setting.choose(NUM_SEEDS, 1))
    ]


def _map_row(name: str, runs: Sequence[FinishedRun], reference: Sequence[FinishedRun], detail: str) -> Row:
    """Return the mean over seeds of the head, and the spread of the seeds."""
    values, others = ([run.results["test"]["map"] for run in side] for side in (runs, reference))
    return Row(
        name,
        mean(values) - mean(others),
        detail=f"{mean(values):.4f} and {mean(others):.4f}, means of {len(runs)} seeds, which by themselves spread "
        f"over {max(others) - min(others):.4f}; {detail}",
    )


def _enlarge(setting: Setting) -> Path:
    """Create a data folder with copies of some photographs, 4 times as wide and high."""
    target = setting.work / "enlarged"
    (target / "images").mkdir(parents=True)
    table = pd.read_csv(setting.data / "labels.csv")
    table = table.iloc[:: max(1, len(table) // setting.choose(300, 60))]
    for name in table["file_name"]:
        image = open_image(setting.data / "images" / name)
        size = (image.width * ENLARGED, image.height * ENLARGED)
        image.resize(size, Image.Resampling.BICUBIC).save(target / "images" / name, quality=90)
    table.to_csv(target / "labels.csv", index=False)
    return target
