"""Peak memory of an extraction of few and of many images."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import peak_of
from benchmarks.rows import Row
from benchmarks.setting import Setting

FEW, MANY = 2_000, 20_000
SIDE = 32  # pixels
DISTINCT = 16  # different images; a comment makes the bytes of each file unique


def peak_memory(setting: Setting) -> list[Row]:
    """Measure the total memory of all processes of an extraction."""
    few, many = (setting.choose(number, number // 50) for number in (FEW, MANY))
    folder = setting.work / "noise"
    folder.mkdir()
    for place, picture in enumerate(pictures(many, SIDE)):
        (folder / f"{place:08d}.jpg").write_bytes(picture)
    low, high = (_peak(setting, folder, number) for number in (few, many))
    return [
        Row(
            f"peak memory of extraction: {many:,} images / {few:,} images",
            high / low,
            target="< 1.1",
            detail=f"{low / 1e6:.0f} MB for {few:,} images, {high / 1e6:.0f} MB for {many:,}: "
            f"{(high - low) / (many - few):.0f} bytes an image (the list of files and digests); proportional set size "
            "of the process and its decoders",
        )
    ]


def extract(folder: Path, number: int, store: Path) -> None:
    """Extract features of the first images of a folder with a tiny network; runs in the measured process."""
    from mlic.features import extract_features
    from mlic.models import FrozenBackbone

    backbone = FrozenBackbone("test_efficientnet", pretrained=False, precision="float32", image_size=SIDE)
    paths = sorted(folder.iterdir())[:number]
    result = extract_features(
        backbone,
        paths,
        directory=store,
        num_workers=2,
        trainer={"accelerator": "cpu", "devices": 1},
    )
    assert result.computed == number, result


def pictures(number: int, side: int) -> Iterator[bytes]:
    """Yield `number` JPEGs of `side` x `side` pixels, each with different bytes."""
    random = np.random.default_rng(0)
    distinct = []
    for _ in range(DISTINCT):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "JPEG")
        distinct.append(stream.getvalue())
    for place in range(number):
        comment = f"{place:08d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        picture = distinct[place % DISTINCT]
        yield picture[:2] + segment + picture[2:]


def _peak(setting: Setting, folder: Path, number: int) -> int:
    store = setting.work / f"memory_{number}"
    return peak_of(setting, "benchmarks.memory", str(folder), str(number), str(store))


if __name__ == "__main__":
    extract(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
