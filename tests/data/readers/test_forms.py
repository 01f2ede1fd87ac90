"""Real photographs in the forms of public data sets, each read as it is."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlic.data import LabelTable, read_coco, read_imagefolder, read_labelstudio, read_openimages
from mlic.data.table import UNKNOWN

FORMS: dict[str, Callable[[Path], LabelTable]] = {
    "coco2017": lambda folder: read_coco(str(folder / "annotations" / "*.json"), folder),
    "imagefolder": lambda folder: read_imagefolder(folder / "train"),
    "labelstudio": lambda folder: read_labelstudio(folder / "project.json", folder / "images"),
    "openimages": lambda folder: read_openimages(
        folder / "train-annotations-human-imagelabels.csv", folder / "train"
    ),
}


@pytest.fixture(scope="module")
def forms(coco_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 63 photographs in each form; skips where the program that makes them is absent."""
    program = coco_data.parent / "formats" / "make.py"
    if not program.is_file():
        pytest.skip(f"no {program}")
    folder = tmp_path_factory.mktemp("forms")
    subprocess.run([sys.executable, program, folder], check=True)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_labels_unknown_labels_and_parts_are_the_true_ones(form: str, forms: Path):
    table = FORMS[form](forms / form)
    with (forms / form / "truth.csv").open(newline="") as file:
        truth = {
            row["path"]: (row["part"], *({*row[key].split("|")} - {""} for key in ("labels", "unknown")))
            for row in csv.DictReader(file)
        }
    found = {}
    for row, name in enumerate(table.file_names):
        sets = [
            {name for name, label in zip(table.classes, table.labels[row], strict=True) if label == wanted}
            for wanted in (1, UNKNOWN)
        ]
        found[name] = ("" if table.parts is None else table.parts[row], *sets)
    assert found == truth
    assert all(Path(str(path)).is_file() for path in table.paths())
