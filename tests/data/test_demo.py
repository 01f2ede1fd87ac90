from pathlib import Path

import numpy as np
import pytest

from mlic.data import demo as demo_module
from mlic.data import read_csv, read_demo, stratified_split
from mlic.errors import InputError


def test_scenes_are_made_once_and_read_as_any_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "demo"
    table = read_demo(folder, num_images=20)
    csv = read_csv(folder / "labels.csv", folder / "images")
    np.testing.assert_array_equal(table.labels, csv.labels)
    assert sorted(path.name for path in (folder / "images").iterdir()) == table.file_names.tolist()
    assert {path.name for path in folder.iterdir()} == {"images", "labels.csv"}
    monkeypatch.setattr(demo_module, "_make", lambda *_: pytest.fail("made again"))
    np.testing.assert_array_equal(read_demo(folder, num_images=20).labels, table.labels)


def test_scenes_depend_on_the_seed_alone(tmp_path: Path):
    tables = [
        read_demo(tmp_path / f"{place}", num_images=15, seed=seed) for place, seed in enumerate((0, 0, 1))
    ]
    contents = [[Path(str(path)).read_bytes() for path in table.paths()] for table in tables]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    assert len(set(contents[0])) == 15


@pytest.mark.slow
def test_classes_are_skewed_and_scenes_hold_one_to_four_digits(tmp_path: Path):
    table = read_demo(tmp_path / "demo")
    shares = dict(zip(table.classes, table.counts() / len(table), strict=True))
    assert len(table) == 1500
    assert len(table.classes) == 10
    assert max(shares.values()) == shares["zero"] == pytest.approx(0.5, abs=0.03)
    assert min(shares.values()) == shares["nine"] == pytest.approx(0.03, abs=0.008)
    assert set(table.labels.sum(axis=1).tolist()) == {1, 2, 3, 4}
    split = stratified_split(table)
    assert all(table.labels[rows].any(axis=0).all() for rows in split.parts().values())


def test_an_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo_module, "_scene", fail)
        with pytest.raises(KeyboardInterrupt):
            read_demo(tmp_path / "demo", num_images=5)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert len(read_demo(tmp_path / "demo", num_images=5)) == 5


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(
        InputError, match=r"holds files, but no labels.csv of the demo. Set data.images to an empty"
    ):
        read_demo(tmp_path, num_images=5)
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    with pytest.raises(InputError, match=r"data.reader.num_images=0: expected at least 1"):
        read_demo(tmp_path, num_images=0)
