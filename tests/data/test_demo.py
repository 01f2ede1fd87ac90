from pathlib import Path

import numpy as np
import pytest

from mlic.data import demo as demo_module
from mlic.data import read_demo, stratified_split
from mlic.errors import InputError


def test_scenes_are_made_once_and_depend_on_the_seed_alone(tmp_path: Path):
    tables = [read_demo(tmp_path / name, num_images=15, seed=int(name)) for name in ("0", "00", "1")]
    contents = [[Path(str(path)).read_bytes() for path in table.paths()] for table in tables]
    assert contents[0] == contents[1] != contents[2]
    assert len(set(contents[0])) == 15
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "0").rglob("*"))]
    np.testing.assert_array_equal(read_demo(tmp_path / "0", num_images=15).labels, tables[0].labels)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "0").rglob("*"))] == times


@pytest.mark.slow
def test_classes_are_skewed_and_scenes_hold_one_to_four_digits():
    table = read_demo()  # in the cache that all tests share
    shares = dict(zip(table.classes, table.counts() / len(table), strict=True))
    assert (len(table), len(table.classes)) == (1500, 10)
    assert max(shares.values()) == shares["zero"] == pytest.approx(0.5, abs=0.03)
    assert min(shares.values()) == shares["nine"] == pytest.approx(0.03, abs=0.008)
    assert set(table.labels.sum(axis=1).tolist()) == {1, 2, 3, 4}
    split = stratified_split(table)
    assert all(table.labels[rows].any(axis=0).all() for rows in split.parts().values())


def test_an_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_demo(tmp_path / "demo", num_images=5)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"contains files, but not the labels\.csv of the demo"):
        read_demo(tmp_path, num_images=5)
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    with pytest.raises(InputError, match=r"data\.reader\.num_images=0"):
        read_demo(tmp_path, num_images=0)
