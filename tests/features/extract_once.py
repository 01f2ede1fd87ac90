"""Extracts a folder of images in a process of its own, which a test may kill; not a test itself.

Arguments: folder of images, folder of stores, file for the result, seconds to wait in each batch. The file
`<result>.batches` grows by a byte a batch.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch

from mlic.features.extraction import extract_features
from mlic.features.store import FeatureStore
from mlic.features.writer import ShardWriter
from mlic.models.backbone import FrozenBackbone
from mlic.runs.signals import ending_on_signals

SHARD_ROWS = 16  # of 256 half-precision features


def main(images: str, directory: str, result: str, seconds: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    backbone = FrozenBackbone(
        "test_efficientnet.r160_in1k", pretrained=False, image_size=64, precision="float32"
    )
    batches = os.open(f"{result}.batches", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    backbone.optimize_for(torch.device("cpu"))
    backbone.register_forward_hook(lambda *_: (os.write(batches, b"x"), time.sleep(float(seconds)), None)[2])
    FeatureStore.writer = lambda self, **_: ShardWriter(  # pyright: ignore[reportAttributeAccessIssue]
        self.folder, self.layout, shard_bytes=SHARD_ROWS * 512
    )
    trainer = {"accelerator": "cpu", "devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    paths = sorted(Path(images).iterdir())
    found = extract_features(
        backbone, paths, directory=directory, batch_size=8, num_workers=1, trainer=trainer
    )
    numbers = {"found": found.found, "computed": found.computed, "folder": str(found.stores[0].folder)}
    rank = os.environ.get("RANK", "0")
    Path(f"{result}.{rank}").write_text(
        json.dumps({**numbers, "digests": found.digests.astype(str).tolist()})
    )


if __name__ == "__main__":
    with ending_on_signals():
        main(*sys.argv[1:])
