"""Peak memory and speed of training on tar shards, for 5,000 and 50,000 images; rows are streamed from the disk."""

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import peak_of
from benchmarks.rows import Row
from benchmarks.setting import TINY_NETWORK, Setting

FEW, MANY = 5_000, 50_000
SHARD_IMAGES = 5_000
MEMORY_GB = 0.01  # for rows, which take 26 MB for 50,000 images
SIDE = 32  # pixels
DISTINCT = 16  # different images; a comment makes the bytes of each file unique
CLASSES = ("ant", "bee", "cat", "dog")


def tar_shards(setting: Setting) -> list[Row]:
    """Measure whole runs in separate processes: reading of the shards, extraction, two epochs, test."""
    few, many = (setting.choose(number, number // 100) for number in (FEW, MANY))
    folder = setting.work / "shards"
    write_shards(folder, many)
    low, high = (_measure(setting, folder, number) for number in (few, many))
    seconds = high[1]
    growth = (high[0] - low[0]) / (many - few)
    return [
        Row(
            f"peak memory of a run on tar shards: {many:,} / {few:,} images",
            high[0] / low[0],
            target="< 1.25",
            detail=f"{low[0] / 1e6:.0f} MB for {few:,} images, {high[0] / 1e6:.0f} MB for {many:,}: {growth:.0f} bytes"
            " an image (names, digests, labels); rows of features held: 10 MB; proportional set size of process and "
            "its decoders",
        ),
        Row(
            f"images/s of a run on tar shards ({many:,} images of {SIDE} pixels, tiny network)",
            many / seconds["features"],
            "images/s",
            detail=f"extraction {seconds['features']:.0f} s; shards read and indexed in {seconds['data']:.1f} s "
            f"({many / seconds['data']:.0f} images/s); two epochs {seconds['fit']:.0f} s; test {seconds['test']:.0f} s",
        ),
    ]


def write_shards(folder: Path, number: int) -> None:
    """Write tiny JPEGs, each with different bytes, and labels in a `.cls` for each."""
    folder.mkdir()
    made = pictures(number, SIDE)
    for start in range(0, number, SHARD_IMAGES):
        with tarfile.open(folder / f"{start // SHARD_IMAGES:04d}.tar", "w") as archive:
            for place in range(start, min(start + SHARD_IMAGES, number)):
                labels = "|".join(name for bit, name in enumerate(CLASSES) if place >> bit & 1)
                for ending, content in (("jpg", next(made)), ("cls", labels.encode())):
                    info = tarfile.TarInfo(f"{place:08d}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


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


def run(folder: Path, number: int, output: Path) -> None:
    """Train a run on the shards of a folder; runs in the measured process."""
    from mlic.config import compose
    from mlic.train import train

    shards = [str(path) for path in sorted(folder.iterdir())[: -(-number // SHARD_IMAGES)]]
    settings = (
        "data=webdataset", f"data.images=[{','.join(shards)}]", f"data.num_images={number}", *TINY_NETWORK,
        f"model.backbone.image_size={SIDE}", "model.backbone.precision=float32", "trainer=cpu", "trainer.max_epochs=2",
        "model.recipe.batch_size=256", f"features.dir={output}_store", f"features.memory_gb={MEMORY_GB}",
        "features.num_workers=2",
    )  # fmt: skip
    train(compose(*settings, output=output))


def _measure(setting: Setting, folder: Path, number: int) -> tuple[int, dict[str, float]]:
    """Return the peak memory in bytes and the seconds of each phase."""
    output = setting.work / f"shards_{number}"
    peak = peak_of(setting, "benchmarks.webdataset", str(folder), str(number), str(output))
    return peak, json.loads((output / "status.json").read_text())["seconds"]


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
