"""Images per second of extraction, compared with the maximum of the cores."""

from pathlib import Path
from statistics import median

import torch

from benchmarks.bare import BATCH_SIZE, Photographs
from benchmarks.rows import Row
from benchmarks.runs import make_backbone
from benchmarks.setting import Setting, cores
from benchmarks.timing import measured, median_core, take_turns
from mlic.features.extraction import extract_features
from mlic.models import FrozenBackbone

FORWARD_PASSES = 6


def extraction_bound(setting: Setting) -> list[Row]:
    """Measure whole extractions to new stores, and their two parts before and after each (machines drift)."""
    backbone = make_backbone(setting)
    paths = setting.photographs()[: setting.choose(2000, 40)]
    shares, rates, spent = [], [], []
    _extract(backbone, paths[:BATCH_SIZE], setting.work / "bound_warm")
    parts = [_core_seconds(setting, backbone, paths)]
    for repetition in range(setting.choose(5, 1)):
        with measured() as clock:
            _extract(backbone, paths, setting.work / f"bound_{repetition}")
        parts.append(_core_seconds(setting, backbone, paths))
        needed = (sum(parts[-2]) + sum(parts[-1])) / 2
        rates.append(len(paths) / clock.wall)
        shares.append(rates[-1] * needed / cores())
        spent.append((clock.core + clock.children) / len(paths))
    decode, forward = (median(values) for values in zip(*parts, strict=True))
    return [
        Row(
            "extraction in images/s / bound",
            median(shares),
            target=">= 0.85",
            detail=f"median of {len(shares)}, {min(shares):.3f} to {max(shares):.3f}; {median(rates):.1f} images/s of "
            f"{cores() / (decode + forward):.1f}; {len(paths)} images, {cores()} cores; decode and transform "
            f"{decode * 1e3:.2f} core-ms, forward pass in {backbone.precision} {forward * 1e3:.2f} core-ms an image, "
            f"together {(decode + forward) * 1e3:.2f}, spent {median(spent) * 1e3:.2f}",
        )
    ]


def _extract(backbone: FrozenBackbone, paths: list[Path], directory: Path) -> None:
    """Extract like a run, with the settings of conf/features/cached.yaml."""
    extract_features(
        backbone,
        paths,
        directory=directory,
        draft_size=backbone.resize_size,
        trainer={"accelerator": "cpu", "devices": 1},
    )


def _core_seconds(setting: Setting, backbone: FrozenBackbone, paths: list[Path]) -> tuple[float, float]:
    """Return core-seconds per image of decoding and transform, and of the forward pass."""
    photographs = Photographs(paths, backbone)
    number = min(len(paths), setting.choose(128, BATCH_SIZE))
    step = max(1, len(paths) // number)
    with measured() as decoding:
        images = [photographs[index * step] for index in range(number)]
    batch = torch.stack(images[:BATCH_SIZE])
    clocks = take_turns({"forward": lambda: backbone(batch)}, setting.choose(FORWARD_PASSES, 1))
    return decoding.core / number, median_core(clocks["forward"]) / len(batch)
