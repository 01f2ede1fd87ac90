from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mlic.data.table import LabelTable
from mlic.figures import image_sheet
from mlic.verification.figures import label_distribution, open_small, sample_images


@pytest.mark.parametrize("counts", [[750, 40], [45, 31, 30], [1, 1], [3, 0], [2_000_000, 900_000]])
def test_every_bar_has_a_length_and_its_number(counts: list[int]):
    named = {str(number): count for number, count in enumerate(counts)}
    figure = label_distribution(named, named)
    low, high = figure.axes[0].get_xlim()
    assert low < min(count for count in counts if count) <= max(counts) < high
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{count:,}" for count in counts]
    assert not figure.legends, "curation changes nothing"


def test_classes_that_curation_changes_have_both_numbers():
    figure = label_distribution({"a": 4000, "b": 1200, "c": 5}, {"a": 80, "b": 1})
    assert [text.get_text() for text in figure.axes[0].texts] == ["80 of 4,000", "1 of 1,200", "5, dropped"]
    assert figure.axes[0].get_xlim()[0] < 1 and len(figure.legends) == 1


def test_samples_are_read_as_by_training_with_their_labels_on_an_even_grid(tmp_path: Path):
    # 16 bits of which 12 are used: read as training reads them, the second image is white
    paths = [tmp_path / "small.png", tmp_path / "deep.png", tmp_path / "broken.png"]
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(paths[0])
    Image.fromarray(np.full((30, 40), 4095, np.uint16)).save(paths[1])
    paths[2].write_bytes(b"")
    labels = np.array([[1, 1], [0, -1], [1, 0]])
    table = LabelTable.build(tmp_path, [path.name for path in paths], labels, ["a $x^2$", "b" * 200])
    figure = image_sheet([(open_small(path, 12), caption) for path, caption in sample_images(table)])
    FigureCanvasAgg(figure).draw()
    # a broken image leaves a gap
    shown = [
        (axes.texts[0].get_text(), np.asarray(axes.images[0].get_array())[-1].min()) for axes in figure.axes
    ]
    assert shown[:2] == [("a $x^2$", 255), ("no label", 255)]
    assert shown[2][0].startswith("a $x^2$, b") and "\n" in shown[2][0] and shown[2][1] == 0
    assert len({tuple(np.round(axes.get_position().bounds[1:], 6)) for axes in figure.axes}) == 1
