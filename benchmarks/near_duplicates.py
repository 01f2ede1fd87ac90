"""Search for near duplicates, compared with one matrix product of all images."""

import torch

from benchmarks.rows import Row
from benchmarks.setting import Setting
from benchmarks.timing import measured
from mlic.features.dataset import MemoryRows
from mlic.features.near_duplicates import BLOCK_ROWS, descriptors, near_duplicate_groups

IMAGES, FEATURES = 50_000, 1280
COPIES = 0.1


def near_duplicates(setting: Setting) -> list[Row]:
    """Measure whitening, pairs and groups against the bare product, in float32 with the same threads."""
    number, width = setting.choose(IMAGES, 300), setting.choose(FEATURES, 32)
    random = torch.Generator().manual_seed(0)
    features = torch.rand(number, width, generator=random)
    copied = int(COPIES * number)
    features[:copied] = features[copied : 2 * copied] + 0.05 * torch.rand(copied, width, generator=random)
    with measured() as bare:
        _bare_product(features)
    with measured() as ours:
        groups = near_duplicate_groups(descriptors(MemoryRows(features)), 0.6)
    found = number - len(set(groups.tolist()))
    return [
        Row(
            f"near duplicates of {number:,} x {width:,} features / one bare matrix product",
            ours.wall / bare.wall,
            target="< 1.5",
            detail=f"{ours.wall:.2f} s and {bare.wall:.2f} s; {found:,} of {copied:,} copies found",
        )
    ]


def _bare_product(features: torch.Tensor) -> None:
    # the whole result would take 10 GB, so that each block of rows overwrites the last one
    result = torch.empty(BLOCK_ROWS, len(features))
    for start in range(0, len(features), BLOCK_ROWS):
        block = features[start : start + BLOCK_ROWS]
        torch.mm(block, features.T, out=result[: len(block)])
