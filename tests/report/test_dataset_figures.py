from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.report.dataset_figures import label_distribution, sample_grid
from mlic.report.figure_files import draw


def described(counts: list[int], kept: int) -> dict:
    names = [f"class {place}" for place in range(len(counts))]
    before = dict(zip(names, counts, strict=True))
    return {
        "counts": {"before_curation": before, "train": dict(list(before.items())[:kept])},
        "images": {"train": max(counts)},
    }


@pytest.mark.parametrize(
    "counts",
    [[750, 40], [45, 31, 30], [1, 1], [10, 10, 10], [100_000, 1], [3, 0], [2_000_000, 900_000]],
)
def test_the_axis_has_numbers_and_every_bar_a_height(counts: list[int]):
    figure = label_distribution(described(counts, len(counts)))
    draw(figure)
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 25
    assert {f"{tick:,.0f}" for tick in ticks if tick >= 1} <= set(shown)
    numbers = [text for text in shown if text]
    assert len(numbers) == len(set(numbers))
    assert low < min(count for count in counts if count) <= max(counts) < high


def test_a_subset_of_a_large_set_has_bars_of_its_own():
    described_set = described([4000, 1200], kept=2)
    described_set["counts"]["train"] = {"class 0": 80, "class 1": 1}
    axes = label_distribution(described_set).axes[0]
    assert axes.get_ylim()[0] < 1
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "5,000"


def test_labels_stand_over_the_images_as_they_are_spelled(tmp_path: Path):
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((30, 40, 3), 100 * number, dtype=np.uint8)).save(paths[-1])
    figure = sample_grid(paths, np.array([[1, 1], [0, 0]]), ["a $x^2$", "b"])
    assert sorted(axes.get_title() for axes in figure.axes) == ["a $x^2$, b", "no label kept"]
    picture = draw(figure, dpi=50)
    assert (picture.width, picture.height) == (260, 145)
    picture.write(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as image:
        assert image.size == (260, 145)


def test_samples_are_read_as_training_reads_images(tmp_path: Path, heic_photo: bytes):
    paths = [tmp_path / "photo.heic", tmp_path / "deep.png"]
    paths[0].write_bytes(heic_photo)
    Image.fromarray(np.full((8, 8), 4095, dtype=np.uint16)).save(paths[1])
    figure = sample_grid(paths, np.array([[1], [0]]), ["a"], bits_stored=12)
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert shown[0].shape == (64, 48, 3)
    assert (shown[1] == 255).all()
