from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mlic.data.table import LabelTable
from mlic.verification.figures import label_distribution, sample_grid


def named(counts: list[int]) -> dict[str, int]:
    return {str(number): count for number, count in enumerate(counts)}


@pytest.mark.parametrize("counts", [[750, 40], [45, 31, 30], [1, 1], [3, 0], [2_000_000, 900_000]])
def test_the_axis_has_numbers_and_every_bar_a_height(counts: list[int]):
    figure = label_distribution(named(counts), named(counts))
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    shown = [label.get_text() for label in axes.get_yticklabels() if label.get_text()]
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 25
    assert {f"{tick:,.0f}" for tick in ticks if tick >= 1} <= set(shown)
    assert len(shown) == len(set(shown))
    assert low < min(count for count in counts if count) <= max(counts) < high


def test_a_subset_of_a_large_set_has_bars_of_its_own():
    axes = label_distribution(named([4000, 1200]), named([80, 1])).axes[0]
    assert axes.get_ylim()[0] < 1
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "5,000"


def test_labels_stand_over_the_images_as_they_are_spelled(tmp_path: Path):
    # 16 bits of which 12 are used: read as training reads them, the second image is white
    paths = [tmp_path / "small.png", tmp_path / "deep.png", tmp_path / "broken.png"]
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(paths[0])
    Image.fromarray(np.full((30, 40), 4095, np.uint16)).save(paths[1])
    paths[2].write_bytes(b"")
    labels = np.array([[1, 1], [0, -1], [1, 0]])
    table = LabelTable.build(tmp_path, [path.name for path in paths], labels, ["a $x^2$", "b"])
    figure = sample_grid(table, bits_stored=12)
    # a broken image leaves a gap
    shown = {axes.texts[0].get_text(): np.asarray(axes.images[0].get_array()).min() for axes in figure.axes}
    assert shown == {"a $x^2$": 255, "no label": 255, "a $x^2$, b": 0}
