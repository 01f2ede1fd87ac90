"""The demo data set: scenes composed of real handwritten digits, generated on first use without a network."""

import logging
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from mlic.data.cache import atomic_folder, cache_dir
from mlic.data.readers.csv import read_csv
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.seeds import check_seed

logger = logging.getLogger(__name__)

VERSION = 1  # increase when the same settings give different scenes
# Target share of scenes with each digit. Skewed like the classes of COCO, where half of the images show a person.
SHARES = {
    "zero": 0.45, "one": 0.29, "two": 0.25, "three": 0.20, "four": 0.16, "five": 0.13, "six": 0.10, "seven": 0.075,
    "eight": 0.05, "nine": 0.032,
}  # fmt: skip
SCENE_PIXELS = 192
DIGIT_PIXELS = (48, 96)  # minimum and maximum side
MOST_DIGITS = 4
OVERLAP = 0.1
JPEG_QUALITY = 90


def read_demo(images: str | Path | None = None, *, num_images: int = 1500, seed: int = 0) -> LabelTable:
    """Read the demo, and generate it first if it is missing, which takes a few seconds.

    Each scene shows 1 to 4 of scikit-learn's 8 x 8 handwritten digits, scaled up, on a noisy grey background.

    Args:
        images: folder for `labels.csv` and `images/`. Default: a folder in the cache.
        num_images: number of scenes.
        seed: seed of the scenes.

    Returns:
        The label table, read from `labels.csv`.

    Raises:
        InputError: `num_images` or `seed` is invalid, or `images` is a folder with other content.
    """
    if num_images < 1:
        raise InputError(f"data.reader.num_images={num_images}: expected at least 1 scene.")
    check_seed("data.reader.seed", seed)
    name = f"demo-v{VERSION}-{num_images}-{seed}"
    folder = Path(images) if images is not None else cache_dir() / name
    labels = folder / "labels.csv"
    if not labels.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not labels.is_file():  # another process may have generated it in the meantime
                _make(folder, num_images, seed)
    return read_csv(labels, folder / "images", separator="|")


def _make(folder: Path, num_images: int, seed: int) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: contains files, but not the labels.csv of the demo. "
            "Set data.images to an empty or new folder, or to null to use the cache."
        )
    logger.info("generating %d scenes of handwritten digits in %s", num_images, folder)
    with atomic_folder(folder) as new:
        (new / "images").mkdir()
        lines = ["file_name,labels"]
        generator = np.random.default_rng(seed)
        stencils = _stencils()
        for number in range(num_images):
            scene, labels = _scene(stencils, generator)
            file_name = f"scene_{number:05d}.jpg"
            scene.save(new / "images" / file_name, quality=JPEG_QUALITY)
            lines.append(f"{file_name},{'|'.join(sorted(labels))}")
        (new / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stencils() -> dict[str, list[Image.Image]]:
    """Return the opacity masks of the about 180 handwritten forms of each digit, at the largest size."""
    pictures, digits = load_digits(return_X_y=True)
    # the margin lets strokes at the edge fade out
    forms = np.pad(np.asarray(pictures).reshape(-1, 8, 8) * (255 / 16), ((0, 0), (1, 1), (1, 1))).astype(
        np.uint8
    )
    size = (DIGIT_PIXELS[1], DIGIT_PIXELS[1])
    masks = [Image.fromarray(form).resize(size, Image.Resampling.BICUBIC) for form in forms]
    return {
        name: [masks[row] for row in np.flatnonzero(digits == digit)] for digit, name in enumerate(SHARES)
    }


def _scene(
    stencils: dict[str, list[Image.Image]], generator: np.random.Generator
) -> tuple[Image.Image, set[str]]:
    """Return a grey scene and the names of its digits."""
    scene = _ground(generator)
    labels = _draw_labels(generator)
    drawn = list(labels)
    if len(drawn) < MOST_DIGITS and generator.random() < 0.2:
        drawn.append(drawn[generator.integers(len(drawn))])  # a second instance of one digit
    for label, box in zip(drawn, _places(len(drawn), generator), strict=True):
        mask = stencils[label][generator.integers(len(stencils[label]))].resize((box[2], box[2]))
        scene.paste(_ink(scene, box, generator), (box[0], box[1]), mask)
    return scene, set(labels)


def _draw_labels(generator: np.random.Generator) -> list[str]:
    """Draw 1 to 4 different digits, each with its share, in random order."""
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    while True:
        chosen = np.flatnonzero(generator.random(len(shares)) < shares)
        if 1 <= len(chosen) <= MOST_DIGITS:
            return [names[digit] for digit in generator.permutation(chosen)]


def _ground(generator: np.random.Generator) -> Image.Image:
    """Return a grey background with a brightness gradient, soft patches and grain."""
    across = np.linspace(-1, 1, SCENE_PIXELS)
    slope = generator.uniform(-20, 20) * across[:, None] + generator.uniform(-20, 20) * across
    patches = Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8))
    patches = patches.resize((SCENE_PIXELS, SCENE_PIXELS), Image.Resampling.BICUBIC)
    grain = generator.normal(0, 6, (SCENE_PIXELS, SCENE_PIXELS))
    values = generator.uniform(90, 165) + slope + (np.asarray(patches) - 127.5) * 0.15 + grain
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))


def _places(count: int, generator: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw squares (left, top, side) that overlap little; shrink them, or start again, if there is no room."""
    boxes: list[tuple[int, int, int]] = []
    largest = DIGIT_PIXELS[1]
    while len(boxes) < count:
        side = int(generator.integers(DIGIT_PIXELS[0], largest + 1))
        left, top = (int(place) for place in generator.integers(0, SCENE_PIXELS - side + 1, size=2))
        if all(_overlap((left, top, side), box) <= OVERLAP for box in boxes):
            boxes.append((left, top, side))
        elif largest > DIGIT_PIXELS[0]:
            largest -= 1
        else:
            boxes, largest = [], DIGIT_PIXELS[1]
    return boxes


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Return the intersection as a share of the smaller square."""
    across, down = (
        max(0, min(one[axis] + one[2], other[axis] + other[2]) - max(one[axis], other[axis]))
        for axis in (0, 1)
    )
    return across * down / min(one[2], other[2]) ** 2


def _ink(scene: Image.Image, box: tuple[int, int, int], generator: np.random.Generator) -> int:
    """Return a grey that contrasts with the background around it."""
    left, top, side = box
    around = float(np.asarray(scene.crop((left, top, left + side, top + side))).mean())
    difference = generator.uniform(60, 110) * (1 if generator.random() < 0.5 else -1)
    return int(np.clip(around + difference, 0, 255))
