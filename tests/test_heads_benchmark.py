"""The nested cross-validation of heads, on a tiny random network."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.head_candidates import RUNS
from benchmarks.head_tables import COMMON_HEADS, Candidate
from benchmarks.heads import Sizes, Study, main
from mlic.data import LabelTable


def test_no_image_is_in_the_training_part_and_in_the_test_part(tmp_path: Path):
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 4)) < 0.3).astype(np.int8)
    table = LabelTable.build(tmp_path, [f"{row:03}.jpg" for row in range(120)], labels, tuple("abcd"))
    study = Study(tmp_path, tmp_path, Sizes(folds=3, seeds=2))
    for seed in range(2):
        tested = []
        for fold in range(3):
            train, test = study.rows(table, None, seed, fold)
            few, same = study.rows(table, 30, seed, fold)
            assert len(np.union1d(train, test)) == 120 and len(train) + len(test) == 120
            assert set(few) < set(train) and abs(len(few) - 30) <= 3 and np.array_equal(same, test)
            tested.append(test)
        assert np.array_equal(np.sort(np.concatenate(tested)), np.arange(120))
    assert not np.array_equal(study.rows(table, None, 0, 0)[1], study.rows(table, None, 1, 0)[1])


@pytest.mark.long
@pytest.mark.slow
def test_command_makes_its_tables_and_continues(
    tiny_csv: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(tiny_csv[1], data / "images")
    # the report's head counts persons by half
    (data / "labels.csv").write_text(tiny_csv[0].read_text().replace("circle", "person"))
    arguments = ["--data", str(data), "--out", str(out), "--quick"]
    assert main(arguments) == 0
    tables = (out / "heads.md").read_text()
    assert tables in capsys.readouterr().out
    for name in (*COMMON_HEADS, *RUNS):
        assert f"| {name} |" in tables
    removed = Study(data, out, Sizes()).file(Candidate("lite0", "linear"), 0, 1)
    removed.unlink()
    assert main([*arguments, "--table-only"]) == 0 and not removed.exists()
    assert main(arguments) == 0 and removed.exists()
