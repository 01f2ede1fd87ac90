"""Small data sets with something wrong with them."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.config import compose
from mlic.verification.checking import Verification
from mlic.verify import verify

Verify = Callable[..., Verification]


class DataSet:
    """A folder of images and a CSV of labels."""

    def __init__(self, folder: Path) -> None:
        self.annotations, self.images = folder / "labels.csv", folder / "photos"
        self.labels: dict[str, str] = {}

    def image(self, name: str, seed: int) -> Path:
        """Make a small image; other seeds give other bytes."""
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG")
        return path

    def add(self, name: str, labels: str, *, seed: int | None = None) -> Path:
        """Annotate an image and make it, with bytes of its own unless a seed is given."""
        self.labels[name] = labels
        return self.image(name, len(self.labels) if seed is None else 10_000 + seed)

    def add_many(self, number: int, labels: str) -> None:
        """Add clean images."""
        for _ in range(number):
            self.add(f"n{len(self.labels):03d}.png", labels)

    def arguments(self) -> list[str]:
        """Write the annotations; return the settings of the command line."""
        with self.annotations.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file_name", "labels"), *self.labels.items()])
        return ["data=csv", f"data.annotations={self.annotations}", f"data.images={self.images}"]


@pytest.fixture
def data_set(tmp_path: Path) -> DataSet:
    """With 24 clean images of a cat, a dog or both."""
    made = DataSet(tmp_path / "set")
    for labels in ("cat", "dog", "cat|dog"):
        made.add_many(8, labels)
    return made


@pytest.fixture
def verify_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """A function (data set, overrides) -> what was found; writes to `tmp_path / "out"`, without figures."""
    monkeypatch.setattr("mlic.verification.report.write_figures", lambda *_, **__: [])  # a second each

    def run(data_set: DataSet | None, *overrides: str) -> Verification:
        arguments = [*(data_set.arguments() if data_set else ()), "data.num_workers=2", *overrides]
        return verify(compose(*arguments, output=tmp_path / "out", config_name="verify"))

    return run


@pytest.fixture
def problems(tmp_path: Path) -> Callable[[], list[tuple[str, ...]]]:
    """A function () -> the rows of problems.csv in `tmp_path / "out"`, without the fields that are empty."""

    def read() -> list[tuple[str, ...]]:
        # names that are not UTF-8 as the system has them
        text = (tmp_path / "out" / "problems.csv").read_bytes().decode(errors="surrogateescape")
        rows = csv.reader(io.StringIO(text, newline=""))
        return [tuple(value for value in row if value) for row in rows][1:]

    return read
